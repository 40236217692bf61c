import JobModel
import JobStore
import JobWatch
import Support
import Testing

@testable import JobService

/// A watch from its beginning to its end, as a reader pulls it.
@Suite(.timeLimit(.minutes(2))) struct WatchOperationTests {
    private func named(_ job: JobRecord, after sequence: Int64 = 0, log: Bool = false) -> WatchQuery {
        WatchQuery(
            jobs: [.init(id: ExactText(job.id.description), afterSequence: sequence)], includesLog: log)
    }

    /// All that a watch has to say, up to its end.
    private func lines(
        _ bench: ServiceBench, _ query: WatchQuery, by caller: Caller = .root
    ) async throws -> [String] {
        var reader = WatchReader(try await bench.watches.begin(query, by: caller))
        var lines: [String] = []
        while let line = try await reader.line() { lines.append(line) }
        reader.close()
        return lines
    }

    /// What happens after the subscription and before the state is read is sent once.
    @Test func theStateAndThenWhatFollows() async throws {
        for enqueuesLate in [false, true] {
            try await ServiceBench.with { bench in
                let job = try await bench.enqueue("a")
                var reader = WatchReader(try await bench.watches.begin(named(job), by: .root))
                if enqueuesLate { try await bench.run() }
                var lines = [try await reader.line()]
                if !enqueuesLate {
                    lines.append(try await reader.line())
                    try await bench.run()
                }
                while let line = try await reader.line() { lines.append(line) }
                reader.close()
                #expect(
                    lines
                        == (enqueuesLate
                            ? ["snapshot succeeded", "succeeded one", "complete"]
                            : ["snapshot pending", "complete", "started one", "succeeded one"]))
            }
        }
    }

    @Test func aWatchResumesAfterASequence() async throws {
        try await ServiceBench.with { bench in
            let job = try await bench.enqueue("a")
            try await bench.run()
            #expect(
                try await lines(bench, named(job, after: 1)) == ["started one", "succeeded one", "complete"])
            #expect(try await lines(bench, named(job, after: 3)) == ["complete"])
            await #expect(throws: ServiceError.outOfRange(job.id, sequence: 3, after: 4)) {
                try await lines(bench, named(job, after: 4))
            }
        }
    }

    /// Also where the same object is shared with a watch that may see the node.
    @Test func namesOfNodesAreLeftOut() async throws {
        try await ServiceBench.with { bench in
            let job = try await bench.enqueue("a")
            var first = WatchReader(try await bench.watches.begin(named(job), by: .of("a")))
            var second = WatchReader(try await bench.watches.begin(named(job), by: .root))
            for expected in ["snapshot pending", "complete"] {
                #expect(try await first.line() == expected)
                #expect(try await second.line() == expected)
            }
            try await bench.run()
            for type in ["started", "succeeded"] {
                #expect(try await first.line() == "\(type) -")
                #expect(try await second.line() == "\(type) one")
            }
            #expect(try await first.line() == nil)
            #expect(try await second.line() == nil)
            first.close()
            second.close()
            // From the database too.
            #expect(
                try await lines(bench, named(job, after: 2), by: .of("a")) == ["succeeded -", "complete"])
        }
    }

    @Test func progressAndLog() async throws {
        try await ServiceBench.with { bench in
            let job = try await bench.enqueue("a")
            let run = try await bench.claim()
            func save(_ fraction: Double, line: Int64) async throws(StoreError) {
                let at = Timestamp(microseconds: line)
                let progress = Progress(
                    stage: "", fraction: fraction, message: "", done: 0, total: 0, updatedAt: at)
                let log = LogLine(number: line, at: at, attempt: 1, level: .info, message: "line \(line)")
                try await bench.store.save([
                    RunUpdate(run, progress: progress, log: [log])
                ])
            }
            try await save(0.25, line: 1)
            var reader = WatchReader(
                try await bench.watches.begin(named(job, after: 1, log: true), by: .root))
            for expected in ["started one", "progress 0.25", "log line 1", "complete"] {
                #expect(try await reader.line() == expected)
            }
            try await save(0.5, line: 2)
            var following: Set<String> = []
            for _ in 0..<2 { following.insert(try await reader.line() ?? "") }
            #expect(following == ["progress 0.5", "log line 2"])
            reader.close()
        }
    }

    /// Only the log may be large, and only where it is wanted.
    @Test func whatMayBeLargeIsAnnounced() async throws {
        try await ServiceBench.with { bench in
            let job = try await bench.enqueue("a")
            for log in [false, true] {
                var beginning = try await bench.watches.begin(named(job, log: log), by: .root)
                var large: [Bool] = []
                repeat { large.append(beginning.nextMayBeLarge) } while try await beginning.next() != nil
                beginning.close()
                #expect(large == [false, false, log, false])
            }
        }
    }

    /// There are very many idle watches.
    @Test func aWatchIsASingleReference() {
        #expect(MemoryLayout<Watch>.size == MemoryLayout<Subscription>.size)
    }

    /// More jobs than are read at once.
    @Test func aWatchOfAUserBeginsWithAllThatIsLive() async throws {
        try await ServiceBench.with { bench in
            for _ in 0..<20 { try await bench.enqueue("a") }
            try await bench.enqueue("b")
            var reader = WatchReader(
                try await bench.watches.begin(WatchQuery(filter: .init(userID: "a")), by: .of("a")))
            for _ in 0..<20 { #expect(try await reader.line() == "snapshot pending") }
            #expect(try await reader.line() == "complete")
            try await bench.enqueue("b")
            try await bench.enqueue("a")
            #expect(try await reader.line() == "enqueued -")
            bench.hub.end()
            await #expect(throws: ServiceError.shuttingDown) { try await reader.line() }
            reader.close()
        }
    }

    @Test func wrongQueries() async throws {
        try await ServiceBench.with { bench in
            let job = WatchQuery.Job(id: "0197a0de-0000-4000-8000-00000000abcd")
            let queries: [(WatchQuery, String)] = [
                (WatchQuery(), "jobs"), (WatchQuery(jobs: [job], filter: .init(userID: "a")), "jobs"),
                (WatchQuery(filter: .init(userID: "a"), includesLog: true), "include_log"),
                (WatchQuery(jobs: [job, job]), "jobs[1].job_id"),
                (WatchQuery(jobs: [job, .init(id: "x")]), "jobs[1].job_id"),
                (WatchQuery(jobs: [.init(id: job.id, afterSequence: -1)]), "jobs[0].after_sequence"),
                (WatchQuery(jobs: [.init(id: job.id, afterLogLine: -1)]), "jobs[0].after_log_line"),
                (WatchQuery(filter: .init()), "filter"),
                (WatchQuery(filter: .init(userID: "a\n")), "filter.user_id"),
                (WatchQuery(filter: .init(queue: "a b")), "filter.queue"),
            ]
            for (query, field) in queries {
                let error = await #expect(throws: ServiceError.self) {
                    try await bench.watches.begin(query, by: .root)
                }
                #expect(error?.fieldViolations.map(\.field) == [field])
            }
        }
    }

    /// A watch counts from its beginning to its end, however it ends.
    @Test func watchesAreCounted() async throws {
        var limits = UserQuotas.Limits()
        limits.watchesMax = 1
        try await ServiceBench.with(limits) { bench in
            let job = try await bench.enqueue("a")
            let refusal = ServiceError.quotaExceeded(.watches, user: "a", retryAfter: .seconds(1))
            for follows in [false, true] {
                var reader = WatchReader(try await bench.watches.begin(named(job), by: .root))
                if follows {
                    #expect(try await reader.line() == "snapshot pending")
                    #expect(try await reader.line() == "complete")
                    try await bench.run()
                    #expect(try await reader.line() == "started one")
                }
                await #expect(throws: refusal) {
                    try await bench.watches.begin(WatchQuery(filter: .init(userID: "a")), by: .root)
                }
                // A caller who may act for all users watches a queue without counting.
                try await bench.watches.begin(WatchQuery(filter: .init(queue: "default")), by: .root).close()
                await #expect(throws: refusal) {
                    try await bench.watches.begin(WatchQuery(filter: .init(queue: "default")), by: .of("a"))
                }
                reader.close()
            }
            try await bench.watches.begin(WatchQuery(filter: .init(userID: "a")), by: .root).close()
        }
    }
}
