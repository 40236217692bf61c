import Dispatch
import JobModel
import JobStore
import Postgres
import Support
import Synchronization
import TestDatabase
import Testing

@Suite struct ClaimTests {
    private final class Counts: Sendable {
        private let counts = Mutex<[JobID: Int]>([:])
        var all: [JobID: Int] { counts.withLock { $0 } }
        func add(_ ids: [JobID]) {
            counts.withLock { counts in for id in ids { counts[id, default: 0] += 1 } }
        }
    }

    private func batch(_ bench: Bench, _ specs: [JobSpec]) async throws -> [JobID] {
        try await bench.store.enqueueBatch(specs.map { NewJob(spec: $0, now: .now) }).map(\.id)
    }

    @Test func carriesTheJob() async throws {
        try await Bench.with { bench in
            let spec = JobSpec(
                kind: "k", userID: "u", queue: "q", payload: [1, 2], contentType: "x/y", priority: 5,
                maxAttempts: 4,
                retryPolicy: RetryPolicy(
                    initialDelay: .seconds(1), factor: 3, maxDelay: .seconds(9), jitter: 0.5),
                timeout: .seconds(8), softTimeout: .seconds(7), labels: ["é": "1", "e\u{301}": "2"])
            let run = try await bench.start(spec)
            var wanted = spec
            wanted.due = run.spec.due
            #expect(run.spec == wanted)
            #expect(run.attempt == 1 && run.attemptsUsed == 1 && run.sequence == 2)
            #expect(run.checkpoint == nil && run.lastLogLine == 0)
            let job = try await bench.job(run.key.id)
            #expect(job.state == .running && job.attempt == 1 && job.startedAt == run.startedAt)
            #expect(try await bench.claim().isEmpty)
            let second = try await bench.start()
            #expect(second.token > run.token)
        }
    }

    @Test func priorityThenDueThenNumber() async throws {
        try await Bench.with { bench in
            func spec(_ priority: Int, _ due: Int64) -> JobSpec {
                JobSpec(
                    kind: "k", userID: "u", priority: priority, due: .at(Timestamp(microseconds: due)))
            }
            let ids = try await batch(
                bench, [spec(0, 9), spec(0, 5), spec(-100, 1), spec(100, 99), spec(0, 5), spec(1, 50)])
            var order: [JobID] = []
            while let run = try await bench.claim(1).first { order.append(run.key.id) }
            #expect(order == [3, 5, 1, 4, 0, 2].map { ids[$0] })
        }
    }

    @Test func onlyKindsThatWereAskedFor() async throws {
        try await Bench.with(kinds: ["a": .retry, "b": .retry]) { bench in
            let ids = try await batch(
                bench, ["a", "b", "c", "a"].map { JobSpec(kind: $0, userID: "u") })
            let a = try await bench.texts("SELECT id::text FROM kind WHERE name = 'a'").compactMap {
                Int32($0)
            }
            #expect(Set(try await bench.claim(kinds: a).map(\.key.id)) == [ids[0], ids[3]])
            #expect(try await bench.claim().map(\.key.id) == [ids[1]])
            #expect(try await bench.claim(kinds: []).isEmpty)
        }
    }

    @Test func neverMoreThanTheSlots() async throws {
        try await Bench.with { bench in
            _ = try await batch(bench, (0..<50).map { JobSpec(kind: "k", userID: "u\($0 % 5)") })
            for slots in [1, 2, 3, 7, 11] { #expect(try await bench.claim(slots).count == slots) }
            #expect(try await bench.claim(1000).count == 50 - 24)
        }
    }

    @Test func lanesRoundRobin() async throws {
        try await Bench.with { bench in
            _ = try await batch(bench, (0..<5000).map { _ in JobSpec(kind: "k", userID: "whale") })
            _ = try await batch(bench, (0..<50).map { JobSpec(kind: "k", userID: "small\($0)") })
            var cursor = ClaimCursor()
            var small: Set<String> = []
            var claims = 0
            // A node of ten slots whose runs end at once.
            while small.count < 50, claims < 100 {
                claims += 1
                let claim = try await bench.store.claim(
                    ClaimRequest(slots: 10, kinds: bench.kinds, cursor: cursor, defaultUserLimit: 3))
                cursor = claim.cursor
                for run in claim.runs {
                    if run.spec.userID != "whale" { small.insert(run.spec.userID.text) }
                    try await bench.finish(run, .success)
                }
            }
            #expect(small.count == 50)
            #expect(claims <= 12)
        }
    }

    /// A busy node has one slot free at a time: whoever has much must not have them all.
    @Test(arguments: [2, 5, 40])
    func oneSlotAtATimeGoesAround(_ users: Int) async throws {
        try await Bench.with { bench in
            _ = try await batch(
                bench,
                (0..<users).flatMap { user in (0..<5).map { _ in JobSpec(kind: "k", userID: "u\(user)") } })
            var cursor = ClaimCursor()
            var order: [String] = []
            var claims = 0
            while order.count < users * 5, claims < users * 20 {
                claims += 1
                let claim = try await bench.store.claim(
                    ClaimRequest(slots: 1, kinds: bench.kinds, cursor: cursor, defaultUserLimit: 3))
                cursor = claim.cursor
                for run in claim.runs {
                    order.append(run.spec.userID.text)
                    try await bench.finish(run, .success)
                }
            }
            // Each turn has everybody once.
            for turn in 0..<5 { #expect(Set(order.dropFirst(turn * users).prefix(users)).count == users) }
            #expect(claims <= users * 5 + 10)
        }
    }

    /// More lanes than one claim looks at.
    @Test func cursorVisitsEveryLane() async throws {
        try await Bench.with { bench in
            _ = try await batch(bench, (0..<100).map { JobSpec(kind: "k", userID: "u\($0)") })
            var cursor = ClaimCursor()
            var users: Set<String> = []
            for _ in 0..<100 {
                let claim = try await bench.store.claim(
                    ClaimRequest(slots: 1, kinds: bench.kinds, cursor: cursor, defaultUserLimit: 1))
                users.formUnion(claim.runs.map(\.spec.userID.text))
                cursor = claim.cursor
            }
            #expect(users.count == 100)
            let last = try await bench.store.claim(
                ClaimRequest(slots: 1, kinds: bench.kinds, cursor: ClaimCursor(), defaultUserLimit: 1))
            #expect(last.runs.isEmpty && !last.hasMore)
        }
    }

    @Test func pausedQueueWaits() async throws {
        try await Bench.with { bench in
            let paused = try await bench.enqueue(JobSpec(kind: "k", userID: "u", queue: "p"))
            let other = try await bench.enqueue(JobSpec(kind: "k", userID: "u", queue: "q"))
            try await bench.store.setPaused(true, queue: "p")
            #expect(try await bench.claim().map(\.key.id) == [other.id])
            #expect(try await bench.store.queue("p", stats: false)?.isPaused == true)
            try await bench.store.setPaused(false, queue: "p")
            #expect(try await bench.claim().map(\.key.id) == [paused.id])
        }
    }

    @Test func limitsOfUserQueueAndService() async throws {
        try await Bench.with { bench in
            _ = try await batch(bench, (0..<40).map { JobSpec(kind: "k", userID: $0 % 2 == 0 ? "a" : "b") })
            func running(_ user: String) async throws -> Int {
                try await bench.store.userLimit(userID: ExactText(user), queue: "default", default: 3).running
            }
            #expect(try await bench.claim(limit: 3).count == 6)
            try await bench.store.setQueueLimit(4, queue: "default")
            #expect(try await bench.claim(limit: 3).count == 2)
            try await bench.store.setUserLimit(6, userID: "a", queue: "default")
            #expect(try await bench.claim(limit: 3).map(\.spec.userID) == ["a", "a"])
            // Lower than what runs: nothing is stopped, nothing starts.
            try await bench.store.setUserLimit(0, userID: "a", queue: "default")
            try await bench.store.setQueueLimit(2, queue: "default")
            #expect(try await bench.claim(limit: 3).isEmpty)
            #expect(try await running("a") == 6)
            #expect(
                try await bench.store.userLimit(userID: "a", queue: "default", default: 3)
                    == UserLimit(userID: "a", queue: "default", maxRunning: 0, isOverridden: true, running: 6)
            )
            try await bench.store.setUserLimit(nil, userID: "a", queue: "default")
            #expect(
                try await bench.store.userLimit(userID: "b", queue: "default", default: 3)
                    == UserLimit(
                        userID: "b", queue: "default", maxRunning: 2, isOverridden: false, running: 4))
            try await bench.store.setQueueLimit(7, queue: "default")
            #expect(try await bench.claim(limit: 3).count == 4)
            #expect(
                try await bench.store.userLimit(userID: "nobody", queue: "none", default: 3)
                    == UserLimit(
                        userID: "nobody", queue: "none", maxRunning: 3, isOverridden: false, running: 0))
        }
    }

    @Test func limitCountsEachQueueByItself() async throws {
        try await Bench.with { bench in
            _ = try await batch(
                bench, (0..<10).map { JobSpec(kind: "k", userID: "u", queue: $0 % 2 == 0 ? "p" : "q") })
            #expect(try await bench.claim(limit: 1).count == 2)
        }
    }

    /// Lanes of a paused queue, or of kinds of others, neither take the places of a claim nor are locked by it.
    @Test func lanesThatAreNotOpenAreSkipped() async throws {
        try await Bench.with(kinds: ["k": .retry, "other": .retry]) { bench in
            let k = try await bench.texts("SELECT id::text FROM kind WHERE name = 'k'").compactMap {
                Int32($0)
            }
            _ = try await batch(bench, (0..<40).map { JobSpec(kind: "k", userID: "u\($0)", queue: "paused") })
            _ = try await batch(bench, (0..<40).map { JobSpec(kind: "other", userID: "v\($0)") })
            try await bench.store.setPaused(true, queue: "paused")
            let ids = try await batch(bench, [JobSpec(kind: "k", userID: "w")])
            let holder = try Connection(bench.schema.connectionConfiguration())
            try holder.executeScript(
                """
                BEGIN; SELECT pg_advisory_xact_lock(('live'::regclass::oid::bigint << 32) | id)
                FROM lane WHERE user_id <> 'w'
                """)
            let request = ClaimRequest(slots: 1, kinds: k, cursor: ClaimCursor(), defaultUserLimit: 3)
            let claim = try await bench.store.claim(request)
            #expect(claim.runs.map(\.key.id) == ids)
            #expect(!claim.isContended && claim.foundLanes)
            let second = try await bench.store.claim(request)
            #expect(second.runs.isEmpty && !second.isContended && !second.foundLanes)
        }
    }

    /// More kinds wait in a lane than a claim of one slot looks at.
    @Test func priorityGoesFirstAmongManyKinds() async throws {
        let names = (0..<40).map { "k\($0)" }
        let kinds: [String: Interruption] = Dictionary(uniqueKeysWithValues: names.map { ($0, .retry) })
        try await Bench.with(kinds: kinds) { bench in
            let numbers = try await bench.texts("SELECT name FROM kind ORDER BY id")
            let last = try #require(numbers.last)
            var specs = names.map { JobSpec(kind: $0, userID: "u") }
            for index in specs.indices where specs[index].kind == last { specs[index].priority = 100 }
            _ = try await batch(bench, specs)
            #expect(try await bench.claim(1).map(\.spec.kind) == [last])
            #expect(try await bench.claim(100).count == 39)
        }
    }

    // MARK: Claims that overlap

    /// Where the next claim was told to begin.
    private final class Outlooks: Sendable {
        private let outlooks = Mutex<[ClaimOutlook]>([])
        var all: [ClaimOutlook] { outlooks.withLock { $0 } }
        func add(_ outlook: ClaimOutlook) { outlooks.withLock { $0.append(outlook) } }
    }

    private final class Gate: Sendable {
        private let semaphore = DispatchSemaphore(value: 0)
        /// Blocks, but not for ever: a failure must not hang.
        func wait() { _ = semaphore.wait(timeout: .now() + 20) }
        func open() { semaphore.signal() }
    }

    private func request(
        _ bench: Bench, _ slots: Int, limit: Int, from cursor: ClaimCursor = ClaimCursor()
    ) -> ClaimRequest {
        ClaimRequest(slots: slots, kinds: bench.kinds, cursor: cursor, defaultUserLimit: limit)
    }

    /// The last page has no other behind it.
    @Test func everyPageButTheLastTellsWhereTheNextBegins() async throws {
        try await Bench.with { bench in
            _ = try await batch(bench, (0..<300).map { JobSpec(kind: "k", userID: "u\($0 % 150)") })
            var cursor = ClaimCursor()
            var pages = 0
            repeat {
                let outlooks = Outlooks()
                let claim = try await bench.store.claim(request(bench, 100, limit: 1, from: cursor)) {
                    outlooks.add($0)
                }
                cursor = claim.cursor
                pages += 1
                let reported = outlooks.all
                let expected = cursor.lane == 0 ? [] : [cursor]
                #expect(reported.map(\.cursor) == expected)
                for outlook in reported {
                    #expect(claim.runs.count <= outlook.runsMax && outlook.runsMax <= 100)
                    #expect(claim.runs.allSatisfy { $0.key.lane <= outlook.cursor.lane })
                }
            } while cursor.lane != 0 && pages < 100
            #expect(pages > 1 && cursor.lane == 0)
            #expect(try await bench.count("live WHERE state = 'running'") == 150)
        }
    }

    /// Then this claim may take all the slots, and leave none to the next one.
    @Test func fewerSlotsThanLanesTellNothing() async throws {
        try await Bench.with { bench in
            _ = try await batch(bench, (0..<300).map { JobSpec(kind: "k", userID: "u\($0 % 150)") })
            let outlooks = Outlooks()
            let claim = try await bench.store.claim(request(bench, 30, limit: 1)) { outlooks.add($0) }
            #expect(claim.hasMore && claim.runs.count == 30 && outlooks.all.isEmpty)
        }
    }

    /// However high the limits are; once there is nobody behind them they take all that is left.
    @Test func lanesShareTheSlotsWhileOthersWaitBehindThem() async throws {
        try await Bench.with { bench in
            _ = try await batch(bench, (0..<1500).map { JobSpec(kind: "k", userID: "u\($0 % 150)") })
            let outlooks = Outlooks()
            let first = try await bench.store.claim(request(bench, 80, limit: 100)) { outlooks.add($0) }
            #expect(first.runs.count == 80 && outlooks.all.map(\.runsMax) == [80])
            #expect(Dictionary(grouping: first.runs, by: \.key.lane).values.allSatisfy { $0.count == 2 })
            let last = try #require(first.runs.map(\.key.lane).max())
            var cursor = ClaimCursor()
            cursor.lane = last + 100
            let behind = try await bench.store.claim(request(bench, 80, limit: 100, from: cursor))
            #expect(behind.runs.count == 80 && Set(behind.runs.map(\.key.lane)).count == 10)
        }
    }

    /// The first one holds its lanes until the second one has what it gets.
    @Test func overlappingClaimsShareNothing() async throws {
        try await Bench.with { bench in
            _ = try await batch(bench, (0..<300).map { JobSpec(kind: "k", userID: "u\($0 % 150)") })
            let (outlooks, continuation) = AsyncStream<ClaimOutlook>.makeStream()
            let gate = Gate()
            let wanted = request(bench, 100, limit: 1)
            let first = Task {
                defer { continuation.finish() }
                return try await bench.store.claim(wanted) { outlook in
                    continuation.yield(outlook)
                    gate.wait()
                }
            }
            let published = await outlooks.first { _ in true }
            let outlook = try #require(published)
            let second = try await bench.store.claim(request(bench, 100, limit: 1, from: outlook.cursor))
            gate.open()
            let firstRuns = try await first.value.runs
            #expect(firstRuns.count == outlook.runsMax)
            #expect(firstRuns.allSatisfy { $0.key.lane <= outlook.cursor.lane })
            #expect(!second.runs.isEmpty)
            #expect(second.runs.allSatisfy { $0.key.lane > outlook.cursor.lane })
            // Nobody is left out for good.
            var cursor = ClaimCursor()
            repeat {
                cursor = try await bench.store.claim(request(bench, 100, limit: 1, from: cursor)).cursor
            } while cursor.lane != 0
            #expect(try await bench.count("live WHERE state = 'running'") == 150)
            let over = try await bench.count(
                "(SELECT FROM live WHERE state = 'running' GROUP BY lane HAVING count(*) > 1) o")
            #expect(over == 0)
        }
    }

    /// Two nodes with two claimers each, until all is done. A third party counts after every claim.
    @Test func limitsAreExactAndEachJobStartsOnce() async throws {
        try await Bench.with(connections: 8) { bench in
            let users = 12
            let limit = 3
            let ids = try await batch(
                bench, (0..<users * 25).map { JobSpec(kind: "k", userID: "u\($0 % users)") })
            let peer = try await bench.peer()
            let started = Counts()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for claimer in 0..<4 {
                    let store = claimer % 2 == 0 ? bench.store : peer
                    group.addTask {
                        var cursor = ClaimCursor()
                        while try await bench.count("live") > 0 {
                            let claim = try await store.claim(
                                ClaimRequest(
                                    slots: 9, kinds: bench.kinds, cursor: cursor, defaultUserLimit: limit))
                            cursor = claim.cursor
                            let over = try await bench.count(
                                """
                                (SELECT FROM live WHERE state = 'running' GROUP BY lane
                                HAVING count(*) > \(limit)) o
                                """)
                            #expect(over == 0)
                            started.add(claim.runs.map(\.key.id))
                            for run in claim.runs {
                                let outcome = try await bench.finish(run, .success, by: store)
                                #expect(outcome == .written)
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(started.all == Dictionary(uniqueKeysWithValues: ids.map { ($0, 1) }))
            #expect(try await bench.count("finished WHERE state = 'succeeded'") == ids.count)
        }
    }

    @Test func dueJobsBecomeReady() async throws {
        try await Bench.with { bench in
            let soon = try await bench.enqueue(JobSpec(kind: "k", userID: "u", due: .after(.seconds(1000))))
            let later = try await bench.enqueue(JobSpec(kind: "k", userID: "u", due: .after(.seconds(5000))))
            #expect(try await bench.claim().isEmpty)
            let early = try await bench.store.promoteDue()
            #expect(early.promoted == 0)
            #expect(try #require(early.next) > .seconds(900) && early.next! <= .seconds(1000))
            try await bench.script(
                "UPDATE live SET due_at = now() - interval '1 second' WHERE number = \(soon.number)")
            let due = try await bench.store.promoteDue()
            #expect(due.promoted == 1)
            #expect(try #require(due.next) > .seconds(4900))
            #expect(try await bench.claim().map(\.key.id) == [soon.id])
            #expect(try await bench.job(later.id).state == .pending)
            _ = try await bench.store.cancel(later.id, note: "")
            #expect(try await bench.store.promoteDue().next == nil)
        }
    }
}
