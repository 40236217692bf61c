import JobModel
import JobStore
import Testing

@Suite struct RetentionTests {
    private static let tables = ["job", "finished", "history", "progress", "checkpoint", "log_line"]

    /// A job that has a row in every table.
    private func whole(_ bench: Bench, ends: Bool) async throws -> ClaimedRun {
        let first = try await bench.start()
        try await bench.finish(first, .again())
        let run = try #require(try await bench.claim().first { $0.key == first.key })
        try await bench.store.save(checkpoint: [1], of: run.fence)
        let moment = Timestamp.now
        try await bench.store.save([
            RunUpdate(
                run,
                progress: Progress(stage: "", fraction: 0, message: "", done: 0, total: 0, updatedAt: moment),
                log: [LogLine(number: 1, at: moment, attempt: 2, level: .info, message: "m")])
        ])
        if ends { try await bench.finish(run, .success) }
        return run
    }

    @Test func removesAllOfAnOldJobAndNothingElse() async throws {
        try await Bench.with { bench in
            let old = try await whole(bench, ends: true)
            let fresh = try await whole(bench, ends: true)
            let live = try await whole(bench, ends: false)
            try await bench.script(
                """
                ALTER TABLE finished DISABLE TRIGGER finished_immutable;
                UPDATE finished SET finished_at = finished_at - interval '8 days' WHERE number = \(old.key.number);
                ALTER TABLE finished ENABLE TRIGGER finished_immutable;
                """)
            #expect(try await bench.store.removeFinished(olderThan: .seconds(7 * 86_400), atMost: 1000) == 1)
            for table in Self.tables {
                let left = try await bench.texts("SELECT DISTINCT number::text FROM \(table) ORDER BY 1")
                let wanted = table == "finished" ? [fresh] : [fresh, live]
                #expect(left == wanted.map { String($0.key.number) }, "\(table)")
            }
            #expect(try await bench.store.job(old.key.id) == nil)
            #expect(try await bench.job(live.key.id).state == .running)
            #expect(try await bench.store.removeFinished(olderThan: .seconds(7 * 86_400), atMost: 1000) == 0)
        }
    }

    @Test func boundedAtOnceAndOldestFirst() async throws {
        try await Bench.with { bench in
            let jobs = (0..<1500).map { NewJob(spec: JobSpec(kind: "k", userID: "u\($0)"), now: .now) }
            _ = try await bench.store.enqueueBatch(jobs)
            try await bench.script(
                """
                DELETE FROM live;
                INSERT INTO finished (
                    number, state, sequence, attempt, max_attempts, finished_at, reason, message)
                SELECT number, 'cancelled', 2, 0, 3, now() - number * interval '1 hour', 'r', 'm' FROM job
                """)
            let removed = try await bench.store.removeFinished(olderThan: .seconds(60), atMost: 1000)
            #expect(removed == 1000)
            let left = try await bench.texts("SELECT max(number)::text FROM job")
            #expect(left == ["500"])
            #expect(try await bench.store.removeFinished(olderThan: .seconds(60), atMost: 1000) == 500)
            #expect(try await bench.count("job") == 0)
        }
    }

    @Test func longGoneNodesAreForgotten() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            let busy = try await bench.peer("three")
            _ = try await bench.enqueue()
            #expect(try await bench.claim(by: busy).count == 1)
            for store in [peer, busy] {
                try await store.endNode()
                try await bench.script(
                    "UPDATE node SET ended_at = ended_at - interval '16 days' WHERE id = \(store.nodeNumber)")
            }
            _ = try await bench.store.removeFinished(olderThan: .seconds(7 * 86_400), atMost: 1000)
            // One that still has a run is needed by whoever takes that back.
            #expect(try await bench.texts("SELECT name FROM node ORDER BY id") == ["one", "three"])
        }
    }
}
