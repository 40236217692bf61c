import JobModel
import JobStore
import Testing

/// What the database itself refuses, whoever asks.
@Suite struct SchemaTests {
    private static let check = "23514"
    private static let integrity = "23000"

    @Test func whatIsWrittenOnceStaysAsItIs() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            try await bench.finish(run, .again())
            let again = try #require(try await bench.claim().first)
            try await bench.finish(again, .success)
            for update in [
                "UPDATE finished SET state = 'failed', reason = 'x', result = NULL",
                "UPDATE finished SET finished_at = now()", "UPDATE job SET payload = ''",
                "UPDATE history SET message = ''",
            ] {
                #expect(try await bench.refusal(of: update)?.state == Self.integrity, "\(update)")
            }
            #expect(try await bench.job(run.key.id).state == .succeeded)
        }
    }

    @Test func jobIsInOneTable() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            try await bench.finish(run, .success)
            let waiting = try await bench.enqueue()
            let twice = [
                """
                INSERT INTO live (number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts)
                VALUES (\(run.key.number), 1, 1, 0, 'ready', now(), 4, 0, 3)
                """,
                """
                INSERT INTO finished (number, state, sequence, attempt, max_attempts, finished_at, reason)
                VALUES (\(waiting.number), 'failed', 2, 0, 3, now(), 'x')
                """,
            ]
            for insert in twice { #expect(try await bench.refusal(of: insert)?.state == Self.integrity) }
            #expect(
                try await bench.refusal(
                    of: """
                        INSERT INTO finished (number, state, sequence, attempt, max_attempts, finished_at, reason)
                        VALUES (\(run.key.number), 'failed', 2, 0, 3, now(), 'x')
                        """)?.state == "23505")
        }
    }

    @Test func liveRowsAreWhole() async throws {
        try await Bench.with { bench in
            try await bench.enqueue()
            let waits = "number = (SELECT min(number) FROM live)"
            let refused: [(set: String, constraint: String)] = [
                ("state = 'running'", "running_has_token_node_start"),
                ("state = 'running', token = 1, node = 1", "running_has_token_node_start"),
                ("token = 1", "running_has_token_node_start"), ("node = 1", "running_has_token_node_start"),
                ("started_at = now()", "running_has_token_node_start"),
                ("cancel_requested_at = now()", "cancel_request_needs_run"),
                ("cancel_reason = ''", "cancel_request_needs_run"),
                ("sequence = 0", "sequence_begins_at_one"), ("attempt = -1", "attempt_within_max_attempts"),
                ("attempt = max_attempts + 1", "attempt_within_max_attempts"),
            ]
            for (set, constraint) in refused {
                let refusal = try await bench.refusal(of: "UPDATE live SET \(set) WHERE \(waits)")
                #expect(refusal?.state == Self.check && refusal?.constraint == constraint, "\(set)")
            }
            #expect(
                try await bench.refusal(
                    of: "UPDATE live SET state = 'running', token = 1, node = 1, started_at = now()") == nil)
            let stopped = try await bench.refusal(of: "UPDATE live SET token = NULL")
            #expect(stopped?.constraint == "running_has_token_node_start")
        }
    }

    @Test func finishedRowsMakeSense() async throws {
        try await Bench.with { bench in
            let columns = """
                number, state, sequence, attempt, max_attempts, finished_at, reason, result, node, started_at
                """
            let refused: [(values: String, constraint: String)] = [
                ("'succeeded', 3, 1, 3, now(), 'x', NULL, 1, now()", "finished_reason_required"),
                ("'failed', 3, 1, 3, now(), NULL, NULL, 1, now()", "finished_reason_required"),
                ("'failed', 3, 1, 3, now(), 'x', '', 1, now()", "only_success_has_a_result"),
                ("'failed', 3, 1, 3, now(), 'x', NULL, NULL, now()", "finished_run_has_node"),
                ("'failed', 3, 1, 3, now(), 'x', NULL, 1, NULL", "finished_run_has_node"),
                ("'succeeded', 3, 1, 3, now(), NULL, NULL, NULL, NULL", "success_needs_run"),
                ("'failed', 1, 1, 3, now(), 'x', NULL, 1, now()", "finished_sequence_check"),
            ]
            for (values, constraint) in refused {
                let refusal = try await bench.refusal(
                    of: "INSERT INTO finished (\(columns)) VALUES (9, \(values))")
                #expect(refusal?.state == Self.check && refusal?.constraint == constraint, "\(values)")
            }
            #expect(
                try await bench.refusal(
                    of:
                        "INSERT INTO finished (\(columns)) VALUES (9, 'failed', 2, 0, 3, now(), 'x', NULL, NULL, NULL)"
                ) == nil)
        }
    }

    @Test func limitsAndPrioritiesHaveBounds() async throws {
        try await Bench.with { bench in
            try await bench.enqueue()
            for update in [
                "UPDATE queue SET user_limit = -1", "UPDATE queue SET user_limit = 100001",
                "UPDATE lane SET user_limit = -1", "UPDATE kind SET on_interruption = 'maybe'",
            ] {
                #expect(try await bench.refusal(of: update)?.state == Self.check, "\(update)")
            }
        }
    }
}
