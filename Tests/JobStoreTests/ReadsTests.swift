import JobModel
import Postgres
import Support
import Testing

@testable import JobStore

@Suite struct ReadsTests {
    private func filter(_ change: (inout JobFilter) -> Void) -> JobFilter {
        var filter = JobFilter()
        change(&filter)
        return filter
    }

    private func scope(_ user: String?) -> UserScope { user.map { .only([ExactText($0)]) } ?? .all }

    @Test func filters() async throws {
        try await Bench.with { bench in
            let a = try await bench.start(
                JobSpec(kind: "k", userID: "a", queue: "p", labels: ["x": "1", "y": "2"]))
            let b = try await bench.start(JobSpec(kind: "k", userID: "b", queue: "q", labels: ["x": "1"]))
            try await bench.finish(a, .success)
            try await bench.finish(b, .failure)
            let c = try await bench.start(JobSpec(kind: "k", userID: "a", queue: "q"))
            let d = try await bench.enqueue(JobSpec(kind: "k2", userID: "a", queue: "p", labels: ["x": "2"]))
            let e = try await bench.enqueue(JobSpec(kind: "k2", userID: "b", due: .after(.seconds(100))))
            _ = try await bench.store.cancel(e.id, note: "")
            let names = [a.key.id: "a", b.key.id: "b", c.key.id: "c", d.id: "d", e.id: "e"]
            func list(_ change: (inout JobFilter) -> Void) async throws -> String {
                let page = try await bench.store.list(filter(change), before: nil, size: 10)
                #expect(page.next == nil)
                return page.jobs.compactMap { names[$0.id] }.joined()
            }
            #expect(try await list { _ in } == "edcba")
            #expect(try await list { $0.userID = "a" } == "dca")
            #expect(try await list { $0.queue = "q" } == "cb")
            #expect(try await list { $0.kinds = ["k2"] } == "ed")
            #expect(try await list { $0.kinds = ["k2", "k", "none"] } == "edcba")
            #expect(try await list { $0.kinds = ["none"] } == "")
            #expect(try await list { $0.states = [.pending] } == "d")
            #expect(try await list { $0.states = [.running, .succeeded] } == "ca")
            #expect(try await list { $0.states = [.failed, .cancelled] } == "eb")
            #expect(try await list { $0.labels = ["x": "1"] } == "ba")
            #expect(try await list { $0.labels = ["x": "1", "y": "2"] } == "a")
            #expect(try await list { $0.labels = ["z": "1"] } == "")
            #expect(try await list { $0.userID = "nobody" } == "")
            #expect(
                try await list {
                    $0.userID = "a"
                    $0.queue = "p"
                    $0.kinds = ["k", "k2"]
                    $0.states = [.succeeded]
                    $0.labels = ["y": "2"]
                } == "a")
            let moment = try await bench.job(c.key.id).createdAt
            #expect(try await list { $0.createdFrom = moment } == "edc")
            #expect(try await list { $0.createdTo = moment } == "ba")
            #expect(
                try await list {
                    $0.createdFrom = moment
                    $0.createdTo = moment.advanced(by: .microseconds(1))
                } == "c")
        }
    }

    @Test func pagesByNumber() async throws {
        try await Bench.with { bench in
            let jobs = (0..<25).map { NewJob(spec: JobSpec(kind: "k", userID: "u\($0 % 2)"), now: .now) }
            _ = try await bench.store.enqueueBatch(jobs)
            for user in [nil, "u1"] {
                var seen: [JobID] = []
                var before: Int64?
                var pages = 0
                repeat {
                    let page = try await bench.store.list(
                        filter { $0.userID = user.map { ExactText($0) } }, before: before, size: 5)
                    #expect(page.jobs.count <= 5)
                    seen += page.jobs.map(\.id)
                    before = page.next
                    pages += 1
                    // Newer jobs do not disturb the pages.
                    try await bench.enqueue()
                } while before != nil && pages < 20
                #expect(
                    seen == jobs.filter { user == nil || $0.spec.userID.text == user }.map(\.id).reversed())
            }
        }
    }

    /// A page that finds nothing among the jobs it may look at says where to go on.
    @Test func scanIsBounded() async throws {
        try await Bench.with { bench in
            let rare = try await bench.enqueue(JobSpec(kind: "rare", userID: "u"))
            for _ in 0..<3 {
                _ = try await bench.store.enqueueBatch(
                    (0..<4000).map { _ in NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now) })
            }
            for user in [nil, "u"] {
                let wanted = filter {
                    $0.kinds = ["rare"]
                    $0.userID = user.map { ExactText($0) }
                }
                let first = try await bench.store.list(wanted, before: nil, size: 5)
                #expect(first.jobs.isEmpty)
                let next = try #require(first.next)
                let second = try await bench.store.list(wanted, before: next, size: 5)
                #expect(second.jobs.map(\.id) == [rare.id] && second.next == nil)
            }
        }
    }

    /// What is older than the time asked for is not looked through, however much it is.
    @Test func scanEndsAtTheTimeAskedFor() async throws {
        try await Bench.with { bench in
            for _ in 0..<3 {
                _ = try await bench.store.enqueueBatch(
                    (0..<4000).map { _ in NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now) })
            }
            // Written once, but for this.
            try await bench.script(
                """
                ALTER TABLE job DISABLE TRIGGER job_immutable;
                UPDATE job SET created_at = created_at - interval '1 hour'
                """)
            let new = try await bench.enqueue()
            let page = try await bench.store.list(
                filter { $0.createdFrom = new.createdAt }, before: nil, size: 5)
            #expect(page.jobs.map(\.id) == [new.id] && page.next == nil)
            let earlier = new.createdAt.advanced(by: .seconds(-2 * 3600))
            let rest = try await bench.store.list(
                filter {
                    $0.createdFrom = earlier
                    $0.kinds = ["none"]
                }, before: nil, size: 5)
            #expect(rest.jobs.isEmpty && rest.next != nil)
        }
    }

    @Test func snapshotOfWhatIsLive() async throws {
        try await Bench.with { bench in
            let done = try await bench.start(JobSpec(kind: "k", userID: "a"))
            try await bench.finish(done, .success)
            let running = try await bench.start(JobSpec(kind: "k", userID: "a", queue: "q"))
            let waiting = try await bench.enqueue(JobSpec(kind: "k", userID: "b", queue: "q"))
            func snapshot(_ user: String?, _ queue: String?) async throws -> [JobID] {
                let page = try await bench.store.snapshotJobs(of: scope(user), queue: queue, after: 0)
                #expect(page.next == nil)
                return page.jobs.map(\.id)
            }
            #expect(try await snapshot("a", nil) == [running.key.id])
            #expect(try await snapshot(nil, "q") == [running.key.id, waiting.id])
            #expect(try await snapshot("b", "q") == [waiting.id])
            #expect(try await snapshot("b", "default") == [])
            #expect(try await snapshot("nobody", nil) == [])
        }
    }

    /// Found by the lanes, or in a walk through all that is live: the same.
    @Test(arguments: [1, 3, 10, 50_000] as [Int64])
    func snapshotFoundEitherWay(_ scannedMax: Int64) async throws {
        try await Bench.with { bench in
            var mine: [JobID] = []
            for number in 0..<12 {
                let isMine = number % 3 > 0
                let due: JobSpec.Due = number % 2 == 0 ? .after(.seconds(100)) : .after(.zero)
                let job = try await bench.enqueue(
                    JobSpec(
                        kind: "k", userID: isMine ? "a" : "b", queue: number % 3 == 1 ? "p" : "q", due: due))
                if isMine { mine.append(job.id) }
            }
            _ = try await bench.claim(3)
            func all(_ user: String?, _ queue: String?) async throws -> [JobID] {
                var seen: [JobID] = []
                var after: Int64? = 0
                while let from = after {
                    let page = try await bench.store.snapshotJobs(
                        of: scope(user), queue: queue, after: from, scannedMax: scannedMax)
                    seen += page.jobs.map(\.id)
                    after = page.next
                }
                return seen
            }
            #expect(try await all("a", nil) == mine)
            #expect(try await all("a", "p") == stride(from: 0, to: 8, by: 2).map { mine[$0] })
            #expect(try await all(nil, "p") == stride(from: 0, to: 8, by: 2).map { mine[$0] })
            #expect(try await all(nil, "q").count == 8)
            #expect(try await all("nobody", nil) == [])
            #expect(try await all(nil, "none") == [])
        }
    }

    @Test func snapshotInPages() async throws {
        try await Bench.with { bench in
            let jobs = (0..<4500).map { NewJob(spec: JobSpec(kind: "k", userID: "u\($0 % 3)"), now: .now) }
            _ = try await bench.store.enqueueBatch(jobs)
            var seen: [JobID] = []
            var after: Int64? = 0
            while let from = after {
                let page = try await bench.store.snapshotJobs(of: scope("u1"), queue: nil, after: from)
                seen += page.jobs.map(\.id)
                after = page.next
            }
            #expect(seen == jobs.filter { $0.spec.userID == "u1" }.map(\.id))
        }
    }

    @Test func statistics() async throws {
        try await Bench.with { bench in
            for verdict: Verdict in [.success, .failure, .cancelled, .success] {
                try await bench.finish(
                    try await bench.start(JobSpec(kind: "k", userID: "u", queue: "q")), verdict)
            }
            _ = try await bench.start(JobSpec(kind: "k", userID: "u", queue: "q"))
            try await bench.enqueue(JobSpec(kind: "k", userID: "u", queue: "q"))
            try await bench.enqueue(JobSpec(kind: "k", userID: "u", queue: "q", due: .after(.seconds(60))))
            try await bench.enqueue()
            let queue = try #require(try await bench.store.queue("q", stats: true))
            let stats = try #require(queue.stats)
            #expect(stats.pending == 2 && stats.notDue == 1 && stats.running == 1)
            #expect(stats.succeeded == 2 && stats.failed == 1 && stats.cancelled == 1)
            #expect(stats.oldestPendingAge != nil && !queue.isPaused)
            #expect(stats.enqueuedPerSecond == 7.0 / 60 && stats.finishedPerSecond == 4.0 / 60)
            #expect(!stats.isCapped && stats.queue == "q")
            #expect(try await bench.store.countedQueues().map(\.name) == ["default", "q"])
            #expect(try await bench.store.countedQueues().last?.stats?.succeeded == 2)
            #expect(try await bench.store.queue("none", stats: true) == nil)
            #expect(try await bench.store.queue("q", stats: false)?.stats == nil)
        }
    }

    /// Counting stops at each bound, and says so.
    @Test func countsAreBounded() async throws {
        try await Bench.with { bench in
            let users: [ExactText] = ["a", "b", "c"]
            for user in users {
                for verdict: Verdict in [.success, .failure] {
                    try await bench.finish(try await bench.start(JobSpec(kind: "k", userID: user)), verdict)
                }
            }
            for user in users {
                for due in [Duration.zero, .zero, .seconds(60)] {
                    try await bench.enqueue(JobSpec(kind: "k", userID: user, due: .after(due)))
                }
            }
            _ = try await bench.claim(3, limit: 1)
            func count(_ jobsMax: Int64, lanes lanesMax: Int64, scanned scannedMax: Int64) async throws
                -> [String]
            {
                try await bench.database.run("count") { connection throws(PostgresError) in
                    let result = try connection.execute(
                        CountQueues(queues: [1], jobsMax: jobsMax, lanesMax: lanesMax, scannedMax: scannedMax)
                    )
                    let row = try result.onlyRow
                    let names = ["ready", "scheduled", "running", "succeeded", "failed"]
                    var values: [String] = []
                    for name in names { values.append("\(try row[result.column(name)] as Int64)") }
                    return values + [try row[result.column("capped")] ? "capped" : "all"]
                }
            }
            #expect(try await count(3, lanes: 3, scanned: 6) == ["3", "3", "3", "3", "3", "all"])
            #expect(try await count(2, lanes: 3, scanned: 6) == ["2", "2", "2", "3", "3", "capped"])
            #expect(try await count(3, lanes: 2, scanned: 6) == ["2", "2", "2", "3", "3", "capped"])
            #expect(try await count(3, lanes: 3, scanned: 5).last == "capped")
        }
    }
}
