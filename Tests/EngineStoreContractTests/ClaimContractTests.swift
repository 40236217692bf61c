import JobModel
import Support
import Synchronization
import Testing

@Suite struct ClaimContractTests {
    @Test(arguments: Implementation.allCases)
    func carriesTheJob(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let run = try await bench.start {
                $0.queue = "q"
                $0.payload = [1, 2]
                $0.contentType = "x/y"
                $0.maxAttempts = 4
                $0.retryPolicy = RetryPolicy(
                    initialDelay: .seconds(1), factor: 3, maxDelay: .seconds(9), jitter: 0.5)
                $0.timeout = .seconds(8)
                $0.softTimeout = .seconds(7)
                $0.priority = 5
                $0.labels = ["a": "b"]
                $0.idempotencyKey = "key"
            }
            let spec = JobSpec(
                kind: "k", userID: "u", queue: "q", payload: [1, 2], contentType: "x/y", priority: 5,
                maxAttempts: 4,
                retryPolicy: RetryPolicy(
                    initialDelay: .seconds(1), factor: 3, maxDelay: .seconds(9), jitter: 0.5),
                timeout: .seconds(8), softTimeout: .seconds(7), labels: ["a": "b"])
            #expect(run.spec == spec)
            #expect(run.attempt == 1 && run.lastAttempt == 4 && run.sequence == 2)
            #expect(run.checkpoint == nil && run.lastLogLine == 0)
            let job = try await bench.record(run.key.id)
            #expect(job.state == .running && job.attempt == 1 && job.startedAt == run.startedAt)
            #expect(job.attempts.map(\.outcome) == [.running] && job.attempts.map(\.node) == ["one"])
            let events = try await bench.events(run.key.id)
            #expect(events.map(\.type) == [.enqueued, .started])
            #expect(bench.one.changes.events(of: run.key.id) == events)
            #expect(try await bench.one.claim().runs.isEmpty)
        }
    }

    @Test(arguments: Implementation.allCases)
    func startsNoMoreThanTheSlots(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            for _ in 0..<5 { try await bench.enqueue() }
            let first = try await bench.one.claim(3)
            #expect(first.runs.count == 3 && first.hasMore && first.foundLanes)
            let second = try await bench.one.claim(3)
            #expect(second.runs.count == 2)
            let tokens = (first.runs + second.runs).map(\.token)
            #expect(Set(tokens).count == 5 && tokens.prefix(3).max()! < tokens.suffix(2).min()!)
        }
    }

    @Test(arguments: Implementation.allCases)
    func goesByPriorityThenDueTimeThenNumber(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            var ids: [JobID] = []
            for (priority, due) in [(0, 9), (0, 5), (-100, 1), (100, 99), (0, 5), (1, 50)] {
                let job = try await bench.enqueue {
                    $0.priority = priority
                    $0.due = .at(Timestamp(microseconds: Int64(due)))
                }
                ids.append(job.id)
            }
            var order: [JobID] = []
            while let run = try await bench.one.claim(1).runs.first { order.append(run.key.id) }
            #expect(order == [3, 5, 1, 4, 0, 2].map { ids[$0] })
        }
    }

    @Test(arguments: Implementation.allCases)
    func limitOfAUserHoldsOverTwoNodes(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let two = try await bench.peer()
            for index in 0..<12 {
                try await bench.enqueue { $0.userID = index % 2 == 0 ? "a" : "b" }
            }
            let first = try await bench.one.claim(4, limit: 3).runs
            let second = try await two.claim(100, limit: 3).runs
            #expect(first.count == 4 && second.count == 2)
            #expect(
                Dictionary(grouping: first + second, by: \.spec.userID).values.allSatisfy { $0.count == 3 })
            try await bench.one.finish(first[0], .success)
            let third = try await two.claim(100, limit: 3).runs
            #expect(third.map(\.spec.userID) == [first[0].spec.userID])
        }
    }

    @Test(arguments: Implementation.allCases)
    func limitsOfUserAndQueueComeBeforeTheDefault(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let store = bench.one.store
            for index in 0..<20 { try await bench.enqueue { $0.userID = index % 2 == 0 ? "a" : "b" } }
            try await store.limitQueue("default", to: 2)
            #expect(try await bench.one.claim(limit: 3).runs.count == 4)
            try await store.limitUser("a", queue: "default", to: 5)
            #expect(try await bench.one.claim(limit: 3).runs.map(\.spec.userID) == ["a", "a", "a"])
            // Below what runs: nothing starts, and nothing is stopped.
            try await store.limitUser("a", queue: "default", to: 1)
            #expect(try await bench.one.claim(limit: 3).runs.isEmpty)
            try await store.limitUser("a", queue: "default", to: nil)
            try await store.limitQueue("default", to: 6)
            #expect(try await bench.one.claim(limit: 3).runs.count == 1 + 4)
            // A limit of a user who is unknown is kept for his first job.
            try await store.limitUser("c", queue: "default", to: 1)
            for _ in 0..<3 { try await bench.enqueue { $0.userID = "c" } }
            #expect(try await bench.one.claim(limit: 3).runs.map(\.spec.userID) == ["c"])
        }
    }

    @Test(arguments: Implementation.allCases)
    func laneWithLimitZeroIsNotOpen(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            try await bench.enqueue()
            try await bench.one.store.limitUser("u", queue: "default", to: 0)
            let claim = try await bench.one.claim()
            #expect(claim.runs.isEmpty && !claim.foundLanes && !claim.isContended && !claim.hasMore)
        }
    }

    @Test(arguments: Implementation.allCases)
    func startsOnlyTheKindsThatWereAskedFor(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation, kinds: ["a": .retry, "b": .retry]) { bench in
            let two = try await bench.peer(kinds: ["b": .retry])
            var ids: [JobID] = []
            for kind in ["a", "b", "c", "a"] { ids.append(try await bench.enqueue { $0.kind = kind }.id) }
            #expect(try await two.claim().runs.map(\.key.id) == [ids[1]])
            #expect(try await bench.one.claim(kinds: []).runs.isEmpty)
            #expect(try await Set(bench.one.claim().runs.map(\.key.id)) == [ids[0], ids[3]])
            let last = try await bench.one.claim()
            #expect(last.runs.isEmpty && !last.foundLanes)
        }
    }

    @Test(arguments: Implementation.allCases)
    func pausedQueueWaits(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            // It is not there yet.
            try await bench.one.store.pause(true, queue: "p")
            let paused = try await bench.enqueue { $0.queue = "p" }
            let other = try await bench.enqueue { $0.queue = "q" }
            #expect(try await bench.one.claim().runs.map(\.key.id) == [other.id])
            #expect(try await !bench.one.claim().foundLanes)
            try await bench.one.store.pause(false, queue: "p")
            #expect(try await bench.one.claim().runs.map(\.key.id) == [paused.id])
        }
    }

    @Test(arguments: Implementation.allCases)
    func nothingStartsWithoutALease(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let two = try await bench.peer(lease: .seconds(500))
            let job = try await bench.enqueue()
            try await bench.cluster.pass(.seconds(600))
            let late = try await two.claim()
            #expect(late.runs.isEmpty && late.foundLanes)
            try await bench.one.store.endNode()
            #expect(try await bench.one.claim().runs.isEmpty)
            #expect(try await bench.record(job.id).state == .pending)
            let unregistered = bench.cluster.store()
            let claim = try await unregistered.claim(
                ClaimRequest(slots: 1, kinds: two.kinds, cursor: ClaimCursor(), defaultUserLimit: 1)
            ) { _ in }
            #expect(claim.runs.isEmpty)
        }
    }

    /// A busy node has one slot free at a time.
    @Test(arguments: Implementation.allCases, [2, 5, 40])
    func lanesAreServedRoundRobin(_ implementation: Implementation, _ users: Int) async throws {
        try await ContractBench.with(implementation) { bench in
            for user in 0..<users { for _ in 0..<3 { try await bench.enqueue { $0.userID = "u\(user)" } } }
            var cursor = ClaimCursor()
            var order: [ExactText] = []
            var claims = 0
            while order.count < users * 3, claims < users * 20 {
                claims += 1
                let claim = try await bench.one.claim(1, limit: 3, from: cursor)
                cursor = claim.cursor
                for run in claim.runs {
                    order.append(run.spec.userID)
                    try await bench.one.finish(run, .success)
                }
            }
            for turn in 0..<3 { #expect(Set(order.dropFirst(turn * users).prefix(users)).count == users) }
        }
    }

    /// There are more lanes than one claim takes.
    @Test(arguments: Implementation.allCases)
    func cursorVisitsEveryLane(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            for user in 0..<50 { try await bench.enqueue { $0.userID = "u\(user)" } }
            let outlooks = Outlooks()
            var cursor = ClaimCursor()
            var users: Set<ExactText> = []
            var lanes: [Int64] = []
            repeat {
                let claim = try await bench.one.claim(40, limit: 1, from: cursor) { outlooks.add($0) }
                users.formUnion(claim.runs.map(\.spec.userID))
                cursor = claim.cursor
                lanes.append(cursor.lane)
            } while cursor.lane != 0 && lanes.count < 10
            #expect(users.count == 50)
            // The first claim takes 40 lanes, has room for each, and tells where the next may begin; the last does not.
            let reported = outlooks.all
            #expect(
                reported.map(\.cursor.lane) == [lanes[0]] && reported.map(\.runsMax) == [40]
                    && lanes.count == 2)
            let last = try await bench.one.claim(1, limit: 1)
            #expect(last.runs.isEmpty && !last.hasMore && !last.foundLanes)
        }
    }

    /// This claim may take all the slots, and leave none to the next one.
    @Test(arguments: Implementation.allCases)
    func fewerSlotsThanLanesGiveNoOutlook(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            for user in 0..<50 { try await bench.enqueue { $0.userID = "u\(user)" } }
            let outlooks = Outlooks()
            let claim = try await bench.one.claim(21, limit: 1) { outlooks.add($0) }
            #expect(claim.hasMore && claim.runs.count == 21 && outlooks.all.isEmpty)
        }
    }

    /// However high the limits are.
    @Test(arguments: Implementation.allCases)
    func lanesShareTheSlotsWhileOthersWaitBehindThem(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            for user in 0..<45 { for _ in 0..<3 { try await bench.enqueue { $0.userID = "u\(user)" } } }
            let first = try await bench.one.claim(80, limit: 100)
            #expect(first.runs.count == 80)
            #expect(Dictionary(grouping: first.runs, by: \.key.lane).values.allSatisfy { $0.count == 2 })
            let rest = try await bench.one.claim(80, limit: 100, from: first.cursor)
            #expect(Dictionary(grouping: rest.runs, by: \.key.lane).map(\.value.count) == [3, 3, 3, 3, 3])
        }
    }

    private final class Outlooks: Sendable {
        private let outlooks = Mutex<[ClaimOutlook]>([])
        var all: [ClaimOutlook] { outlooks.withLock { $0 } }
        func add(_ outlook: ClaimOutlook) { outlooks.withLock { $0.append(outlook) } }
    }
}
