import JobModel
import JobStore
import JobWatch
import Postgres
import Support
import Testing

@testable import JobService

/// A watch that goes on where another one was cut.
@Suite(.timeLimit(.minutes(2))) struct ResumeTests {
    private func named(_ ids: [JobID], after token: ExactText = "", log: Bool = false) -> WatchQuery {
        WatchQuery(
            jobs: ids.map { .init(id: ExactText($0.description)) }, includesLog: log, resumeToken: token)
    }

    private func user(_ user: ExactText, after token: ExactText = "") -> WatchQuery {
        WatchQuery(filter: .init(userID: user), resumeToken: token)
    }

    private func reader(
        _ bench: ServiceBench, _ query: WatchQuery, by caller: Caller = .root
    ) async throws -> WatchReader {
        WatchReader(try await bench.watches.begin(query, by: caller))
    }

    /// The lines up to the end of what was missed, and the token after it.
    private func beginning(
        _ bench: ServiceBench, _ query: WatchQuery, by caller: Caller = .root
    ) async throws -> (lines: [String], token: ExactText) {
        var reader = try await reader(bench, query, by: caller)
        var lines: [String] = []
        while let line = try await reader.line() {
            lines.append(line)
            if line == "complete" { break }
        }
        reader.close()
        return (lines, reader.token)
    }

    private func violation(
        _ bench: ServiceBench, _ query: WatchQuery, by caller: Caller = .root
    ) async -> FieldViolation? {
        let error = await #expect(throws: ServiceError.self) {
            try await bench.watches.begin(query, by: caller)
        }
        return error?.fieldViolations.first
    }

    // MARK: Named jobs

    @Test func namedJobsGoOn() async throws {
        try await ServiceBench.with { bench in
            let ids = [try await bench.enqueue("a").id, try await bench.enqueue("a").id]
            let first = try await beginning(bench, named(ids))
            #expect(first.lines == ["snapshot pending", "snapshot pending", "complete"])
            #expect(!first.token.isEmpty)
            try await bench.run()
            // In any order.
            let second = try await beginning(bench, named(ids.reversed(), after: first.token))
            #expect(second.lines == ["resumed", "started one", "succeeded one", "complete"])
            #expect(
                try await beginning(bench, named(ids, after: second.token)).lines == ["resumed", "complete"])
            // Tokens stay good.
            #expect(try await beginning(bench, named(ids, after: first.token)).lines == second.lines)
            // By another caller, with the caller's rights.
            let other = try await beginning(bench, named(ids, after: first.token), by: .of("a"))
            #expect(other.lines == ["resumed", "started -", "succeeded -", "complete"])
            await #expect(throws: ServiceError.notFound(ids[0])) {
                try await beginning(bench, named([ids[0]]), by: .of("b"))
            }
        }
    }

    /// A heartbeat has a token only after much was sent: a watch that resumes repeats a few events.
    @Test func heartbeatsSayHowFarAWatchIs() async throws {
        try await ServiceBench.with(heartbeatSeconds: 1) { bench in
            var ids: [JobID] = []
            for _ in 0..<9 { ids.append(try await bench.enqueue("a").id) }
            var reader = try await reader(bench, named(ids))
            while try await reader.line() != "complete" {}
            let first = reader.token
            #expect(try await reader.line(stopsAtHeartbeats: true) == "heartbeat")
            #expect(reader.token == first)
            try await bench.run()
            while try await reader.line(stopsAtHeartbeats: true) != "heartbeat" {}
            #expect(reader.token == first)
            for _ in 0..<7 { try await bench.run() }
            while try await reader.line(stopsAtHeartbeats: true) != "heartbeat" || reader.token == first {}
            reader.close()
            let after = try await beginning(bench, named(ids, after: reader.token))
            #expect(after.lines == ["resumed", "complete"])
        }
    }

    @Test func theLogGoesOn() async throws {
        try await ServiceBench.with { bench in
            let id = try await bench.enqueue("a").id
            let run = try await bench.claim()
            func write(_ number: Int64) async throws(StoreError) {
                let line = LogLine(
                    number: number, at: Timestamp(microseconds: number), attempt: 1, level: .info,
                    message: "line \(number)")
                try await bench.store.save([
                    RunUpdate(run, progress: nil, log: [line])
                ])
            }
            try await write(1)
            try await write(2)
            var query = named([id], log: true)
            query.jobs[0].afterLogLine = 1
            let first = try await beginning(bench, query)
            #expect(first.lines == ["snapshot running", "log line 2", "complete"])
            try await write(3)
            let second = try await beginning(bench, named([id], after: first.token, log: true))
            #expect(second.lines == ["resumed", "log line 3", "complete"])
            // A watch without the log has had none of it.
            let without = try await beginning(bench, named([id]))
            let all = try await beginning(bench, named([id], after: without.token, log: true))
            #expect(all.lines == ["resumed", "log line 1,line 2,line 3", "complete"])
        }
    }

    @Test func missingJobsDoNotEndTheWatchOfOthers() async throws {
        try await ServiceBench.with { bench in
            let (mine, theirs) = (try await bench.enqueue("a").id, try await bench.enqueue("b").id)
            let missing = JobID.version7(at: .now)
            let ids = [missing, mine, theirs]
            let first = try await beginning(bench, named(ids), by: .of("a"))
            #expect(first.lines == ["removed", "snapshot pending", "removed", "complete"])
            // It was said already.
            var reader = try await reader(bench, named(ids, after: first.token), by: .of("a"))
            #expect(try await reader.line() == "resumed")
            #expect(try await reader.line() == "complete")
            try await bench.run()
            #expect(try await reader.line() == "started -")
            #expect(try await reader.line() == "succeeded -")
            #expect(try await reader.line() == nil)
            reader.close()
            await #expect(throws: ServiceError.notFound(missing)) {
                try await bench.watches.begin(named([missing]), by: .root)
            }
            var none = try await self.reader(bench, named([missing, JobID.version7(at: .now)]))
            for expected in ["removed", "removed", "complete", nil] {
                #expect(try await none.line() == expected)
            }
            none.close()
        }
    }

    @Test func aJobThatIsRemovedMeanwhile() async throws {
        try await ServiceBench.with { bench in
            let ids = [try await bench.enqueue("a").id, try await bench.enqueue("a").id]
            let first = try await beginning(bench, named(ids))
            var reader = try await reader(bench, named(ids))
            while try await reader.line() != "complete" {}
            try await bench.script(
                "DELETE FROM live WHERE number = (SELECT min(number) FROM job); "
                    + "DELETE FROM job WHERE number = (SELECT min(number) FROM job)")
            // The hub is told that there may be more to read.
            bench.hub.receive([.uncertain])
            try await bench.hub.deliver([])
            #expect(try await reader.line() == "removed")
            reader.close()
            let second = try await beginning(bench, named(ids, after: first.token))
            #expect(second.lines == ["resumed", "removed", "complete"])
            #expect(
                try await beginning(bench, named(ids, after: second.token)).lines == ["resumed", "complete"])
        }
    }

    @Test func tokensThatCannotBeUsed() async throws {
        try await ServiceBench.with { bench in
            let ids = [try await bench.enqueue("a").id, try await bench.enqueue("a").id]
            let token = try await beginning(bench, named(ids)).token
            let fresh = ["snapshot pending", "snapshot pending", "complete"]
            for text: ExactText in ["x", "AQ", ExactText(String(token.text.reversed()))] {
                var query = named(ids, after: text)
                query.jobs[0].afterSequence = 1
                #expect(try await beginning(bench, query).lines == fresh)
            }
            // The job has not come so far, because the database is an older one. The job has another number, because the
            // one that the watch was for was removed.
            for (number, sequence) in [(1, 2), (3, 1)] as [(Int64, Int64)] {
                let other = ResumeTokens(secret: Array(0..<32)).encode(
                    .jobs([
                        ids[0]: .sent(number: number, sequence: sequence, logLine: 0),
                        ids[1]: .sent(number: 2, sequence: 1, logLine: 0),
                    ]), of: .jobs(ids))
                #expect(try await beginning(bench, named(ids, after: ExactText(other ?? ""))).lines == fresh)
            }
            let same = ResumeTokens(secret: Array(0..<32)).encode(
                .jobs([
                    ids[0]: .sent(number: 1, sequence: 1, logLine: 0),
                    ids[1]: .sent(number: 2, sequence: 1, logLine: 0),
                ]), of: .jobs(ids))
            #expect(
                try await beginning(bench, named(ids, after: ExactText(same ?? ""))).lines
                    == ["resumed", "complete"])
            for query in [named([ids[0]], after: token), user("a", after: token)] {
                let violation = await violation(bench, query)
                #expect(violation?.field == "resume_token" && violation?.reason == .notAllowedHere)
            }
        }
    }

    /// A history that is longer than what one read returns.
    @Test func aLongHistoryHasNoGap() async throws {
        try await ServiceBench.with { bench in
            let id = try await bench.enqueue("a").id
            let first = try await beginning(bench, named([id]))
            let ofUser = try await beginning(bench, user("a"))
            try await bench.script(
                """
                INSERT INTO history (number, sequence, type, attempt, at)
                SELECT number, 1 + n, 'released', 0, now() FROM live, generate_series(1, 300) n;
                UPDATE live SET sequence = 301;
                INSERT INTO change (node, jobs, lanes, sequences)
                SELECT 0, ARRAY[number], ARRAY[lane], ARRAY[1 + n::bigint] FROM live, generate_series(1, 300) n
                """)
            let released = Array(repeating: "released -", count: 300)
            #expect(
                try await beginning(bench, named([id], after: first.token)).lines
                    == ["resumed"] + released + ["complete"])
            #expect(
                try await beginning(bench, user("a", after: ofUser.token)).lines
                    == ["resumed"] + released + ["complete"])
        }
    }

    // MARK: A user or a queue

    /// What has ended meanwhile is not lost, and what has not changed is not sent again.
    @Test func aUsersWatchGoesOn() async throws {
        try await ServiceBench.with { bench in
            try await bench.enqueue("a")
            try await bench.enqueue("a")
            let first = try await beginning(bench, user("a"))
            #expect(first.lines == ["snapshot pending", "snapshot pending", "complete"])
            #expect(!first.token.isEmpty)
            try await bench.run()
            try await bench.enqueue("b")
            var reader = try await reader(bench, user("a", after: first.token))
            for expected in ["resumed", "started one", "succeeded one", "complete"] {
                #expect(try await reader.line() == expected)
            }
            // The one that was not sent goes on from where the client has it.
            try await bench.run()
            #expect(try await reader.line() == "started one")
            #expect(try await reader.line() == "succeeded one")
            try await bench.enqueue("a")
            #expect(try await reader.line() == "enqueued -")
            reader.close()
            #expect(try await beginning(bench, user("a", after: reader.token)).lines.first == "resumed")
        }
    }

    @Test func aQueuesWatchHasTheRightsOfItsCaller() async throws {
        try await ServiceBench.with { bench in
            func queue(_ token: ExactText = "") -> WatchQuery {
                WatchQuery(filter: .init(queue: "default"), resumeToken: token)
            }
            let first = try await beginning(bench, queue())
            try await bench.enqueue("a")
            try await bench.enqueue("b")
            #expect(
                try await beginning(bench, queue(first.token)).lines
                    == ["resumed", "enqueued -", "enqueued -", "complete"])
            #expect(
                try await beginning(bench, queue(first.token), by: .of("a")).lines
                    == ["snapshot pending", "complete"])
            let violation = await violation(bench, user("a", after: first.token))
            #expect(violation?.field == "resume_token" && violation?.reason == .notAllowedHere)
        }
    }

    /// A heartbeat of a user's watch has a token of its own time.
    @Test func heartbeatsOfAUsersWatch() async throws {
        try await ServiceBench.with(heartbeatSeconds: 1) { bench in
            var reader = try await reader(bench, user("a"))
            while try await reader.line() != "complete" {}
            try await bench.enqueue("a")
            #expect(try await reader.line() == "enqueued -")
            // The place of the first one may be older than the event, which would be repeated then.
            for _ in 0..<2 { while try await reader.line(stopsAtHeartbeats: true) != "heartbeat" {} }
            reader.close()
            try await bench.run()
            #expect(
                try await beginning(bench, user("a", after: reader.token)).lines
                    == ["resumed", "started one", "succeeded one", "complete"])
        }
    }

    @Test func placesThatAreTooOld() async throws {
        try await ServiceBench.with { bench in
            try await bench.enqueue("a")
            let tokens = ResumeTokens(secret: Array(0..<32))
            let now = try #require(bench.hub.place)
            func lines(_ change: (inout ChangePlace) -> Void) async throws -> [String] {
                var place = now
                change(&place)
                let token =
                    tokens.encode(
                        .changes(place), of: .all(userID: "a", queue: nil), for: .only(["a"])) ?? ""
                return try await beginning(bench, user("a", after: ExactText(token))).lines
            }
            #expect(try await lines { _ in }.first == "resumed")
            #expect(
                try await lines { $0.at = $0.at.advanced(by: .seconds(-60)) }.first == "resumed")
            for change: (inout ChangePlace) -> Void in [
                { $0.at = $0.at.advanced(by: .seconds(-91)) }, { $0.xmax += 1_000_000 },
            ] {
                #expect(try await lines(change) == ["snapshot pending", "complete"])
            }
        }
    }

    @Test func progressSinceIsSent() async throws {
        try await ServiceBench.with { bench in
            try await bench.enqueue("a")
            let run = try await bench.claim()
            let first = try await beginning(bench, user("a"))
            let progress = Progress(
                stage: "", fraction: 0.5, message: "", done: 0, total: 0,
                updatedAt: Timestamp(microseconds: 1))
            try await bench.store.save([
                RunUpdate(run, progress: progress, log: [])
            ])
            var reader = try await reader(bench, user("a", after: first.token))
            var lines: [String] = []
            while lines.last != "progress 0.5", let line = try await reader.line() {
                lines.append(line)
            }
            reader.close()
            #expect(lines == ["resumed", "complete", "progress 0.5"])
        }
    }
}
