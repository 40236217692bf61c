import JobModel
import Support
import Synchronization
import Testing

/// What clients ask for, as far as the engine meets it: enqueue with its starts, cancel, retry.
@Suite struct ClientContractTests {
    private static let id = JobID("0197a000-0000-7000-8000-000000000001")!

    private func enqueue(_ bench: ContractBench, _ change: (inout JobSpec) -> Void) async throws -> Enqueued {
        var spec = JobSpec(kind: "k", userID: "u")
        change(&spec)
        return try await bench.one.store.enqueue(NewJob(spec: spec, now: .now, by: .with(.all)))
    }

    @Test(arguments: Implementation.allCases)
    func sameIDIsTheSameJobOrAConflict(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let first = try await enqueue(bench) { $0.jobID = Self.id }
            #expect(first.isNew && first.job.sequence == 1)
            let second = try await enqueue(bench) { $0.jobID = Self.id }
            #expect(!second.isNew && second.job.id == Self.id)
            // The key says which request it is, and is no part of the content.
            let keyed = try await enqueue(bench) {
                $0.jobID = Self.id
                $0.idempotencyKey = "key"
            }
            #expect(!keyed.isNew && keyed.job.spec.idempotencyKey == nil)
            // A request with the id of one job and the key of another is the same as neither.
            _ = try await enqueue(bench) { $0.idempotencyKey = "taken" }
            await #expect(throws: StoreError.conflict(Self.id, index: 0)) {
                _ = try await enqueue(bench) {
                    $0.jobID = Self.id
                    $0.idempotencyKey = "taken"
                }
            }
            let changes: [(inout JobSpec) -> Void] = [
                { $0.payload = [1] }, { $0.userID = "v" }, { $0.priority = 1 },
            ]
            for change in changes {
                await #expect(throws: StoreError.conflict(Self.id, index: 0)) {
                    _ = try await enqueue(bench) {
                        $0.jobID = Self.id
                        change(&$0)
                    }
                }
            }
            #expect(try await bench.one.claim().runs.count == 2)
        }
    }

    @Test(arguments: Implementation.allCases)
    func sameKeyOfAUserIsTheSameJobOrAConflict(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let first = try await enqueue(bench) { $0.idempotencyKey = "key" }
            let second = try await enqueue(bench) {
                $0.idempotencyKey = "key"
                $0.jobID = Self.id
            }
            #expect(!second.isNew && second.job.id == first.job.id)
            await #expect(throws: StoreError.conflict(first.job.id, index: 0)) {
                _ = try await enqueue(bench) {
                    $0.idempotencyKey = "key"
                    $0.payload = [1]
                }
            }
            #expect(
                try await enqueue(bench) {
                    $0.idempotencyKey = "key"
                    $0.userID = "v"
                }.isNew)
        }
    }

    @Test(arguments: Implementation.allCases)
    func answerToARepeatedRequestIsTheJobAsItIs(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let run = try await bench.start { $0.jobID = Self.id }
            try await bench.one.finish(run, .success)
            let again = try await enqueue(bench) { $0.jobID = Self.id }
            #expect(!again.isNew && again.job.state == .succeeded && again.job.sequence == 3)
        }
    }

    @Test(arguments: Implementation.allCases)
    func cancelEndsAPendingJobAndAsksARunningOne(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let store = bench.one.store
            let waiting = try await bench.enqueue { $0.due = .after(.seconds(100)) }
            try await store.requestCancel(waiting.id, note: "why", for: .all)
            var job = try await bench.record(waiting.id)
            #expect(job.state == .cancelled && job.sequence == 2 && job.attempt == 0)
            #expect(job.error == JobError(message: "why", cause: .cancelled))
            #expect(try await bench.events(waiting.id).map(\.type) == [.enqueued, .cancelled])
            #expect(bench.one.changes.events(of: waiting.id).map(\.sequence) == [1, 2])
            let run = try await bench.start()
            try await store.requestCancel(run.key.id, note: "first", for: .all)
            try await store.requestCancel(run.key.id, note: "second", for: .all)
            job = try await bench.record(run.key.id)
            #expect(job.state == .running && job.cancelRequested && job.sequence == 3)
            // The run goes on: the request is no error of an attempt yet.
            #expect(job.error == nil && job.attempts.map(\.outcome) == [.running])
            #expect(job.attempts.map(\.startedAt) == [run.startedAt])
            #expect(try await store.cancelRequests().map(\.note) == ["first"])
            #expect(bench.one.changes.cancels.map(\.note) == ["first"])
            let events = try await bench.events(run.key.id)
            #expect(events.map(\.type) == [.enqueued, .started, .cancelRequested])
            #expect(events.last?.error == JobError(message: "first", cause: .cancelled))
            #expect(events.last?.state == .running && events.last?.attempt == 1 && events.last?.node == "one")
            #expect(bench.one.changes.events(of: run.key.id) == events)
            #expect(try await bench.one.finish(run, .success) == .written)
            let whole = try await bench.events(run.key.id)
            #expect(whole.map(\.type) == [.enqueued, .started, .cancelRequested, .succeeded])
            #expect(bench.one.changes.events(of: run.key.id) == whole)
            #expect(try await bench.record(run.key.id).attempts.map(\.outcome) == [.succeeded])
            try await store.requestCancel(run.key.id, note: "late", for: .all)
            #expect(try await bench.record(run.key.id).state == .succeeded)
        }
    }

    @Test(arguments: Implementation.allCases)
    func retryPutsAFinalJobBack(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let store = bench.one.store
            let first = try await bench.start { $0.maxAttempts = 2 }
            await #expect(throws: StoreError.wrongState(.running)) {
                try await store.requestRetry(first.key.id, for: .all)
            }
            try await bench.one.finish(first, .failure)
            try await store.requestRetry(first.key.id, for: .all)
            var job = try await bench.record(first.key.id)
            #expect(job.state == .pending && job.sequence == 4 && job.attempt == 1 && job.error == nil)
            #expect(job.spec.maxAttempts == 2 && job.attemptsUsed == 0)
            #expect(job.startedAt == nil && job.finishedAt == nil)
            let second = try await bench.claimed(first.key.id)
            #expect(second.attempt == 2 && second.lastAttempt == 3 && second.attemptsUsed == 1)
            try await bench.one.finish(second, .success)
            await #expect(throws: StoreError.wrongState(.succeeded)) {
                try await store.requestRetry(first.key.id, for: .all)
            }
            job = try await bench.record(first.key.id)
            #expect(job.attempts.map(\.outcome) == [.failed, .succeeded])
            let events = try await bench.events(first.key.id)
            #expect(events.map(\.type) == [.enqueued, .started, .failed, .retried, .started, .succeeded])
            #expect(bench.one.changes.events(of: first.key.id) == events)
        }
    }

    @Test(arguments: Implementation.allCases)
    func otherSequenceThanExpectedChangesNothing(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let store = bench.one.store
            func mismatch(
                _ expected: Int64, actual: Int64, _ body: (Int64) async throws -> Void
            ) async throws {
                await #expect(throws: StoreError.sequenceMismatch(expected: expected, actual: actual)) {
                    try await body(expected)
                }
            }
            let waiting = try await bench.enqueue()
            func cancel(_ id: JobID) -> (Int64) async throws -> Void {
                { try await store.requestCancel(id, note: "why", expectedSequence: $0, for: .all) }
            }
            func retry(_ id: JobID) -> (Int64) async throws -> Void {
                { try await store.requestRetry(id, expectedSequence: $0, for: .all) }
            }
            try await mismatch(2, actual: 1, cancel(waiting.id))
            #expect(try await bench.record(waiting.id).state == .pending)
            let run = try await bench.claimed(waiting.id)
            try await mismatch(1, actual: 2, cancel(waiting.id))
            try await mismatch(1, actual: 2, retry(waiting.id))
            #expect(try await !bench.record(waiting.id).cancelRequested)
            try await cancel(waiting.id)(2)
            // A repeated call has no effect.
            try await mismatch(2, actual: 3, cancel(waiting.id))
            try await cancel(waiting.id)(3)
            try await bench.one.finish(run, .cancelled)
            try await mismatch(3, actual: 4, cancel(waiting.id))
            try await mismatch(3, actual: 4, retry(waiting.id))
            #expect(try await bench.record(waiting.id).state == .cancelled)
            try await retry(waiting.id)(4)
            try await mismatch(4, actual: 5, retry(waiting.id))
            try await cancel(waiting.id)(5)
            let types = try await bench.events(waiting.id).map(\.type)
            #expect(
                types == [.enqueued, .started, .cancelRequested, .cancelled, .retried, .cancelled])
            await #expect(throws: StoreError.wrongState(.pending)) {
                let other = try await bench.enqueue()
                try await store.requestRetry(other.id, expectedSequence: 1, for: .all)
            }
        }
    }

    @Test(arguments: Implementation.allCases)
    func jobOfAnotherUserIsNotFound(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let job = try await bench.enqueue()
            for users: UserScope in [.only(["v"]), .only([])] {
                await #expect(throws: StoreError.notFound) {
                    try await bench.one.store.requestCancel(job.id, note: "", for: users)
                }
                await #expect(throws: StoreError.notFound) {
                    try await bench.one.store.requestRetry(job.id, for: users)
                }
            }
            await #expect(throws: StoreError.notFound) {
                try await bench.one.store.requestCancel(Self.id, note: "", for: .all)
            }
            #expect(try await bench.record(job.id).state == .pending)
        }
    }

    // MARK: Jobs that start as they are enqueued

    /// Grants up to its slots, and keeps what it was given.
    private final class Starter: RunStarter {
        private struct State {
            var slots: Int
            var open = 0
            var runs: [ClaimedRun] = []
        }

        private let kinds: [Int32]
        private let state: Mutex<State>

        init(_ node: Node, slots: Int) {
            kinds = node.kinds
            state = Mutex(State(slots: slots))
        }

        var runs: [ClaimedRun] { state.withLock(\.runs) }
        var open: Int { state.withLock(\.open) }

        func beginStart(upTo count: Int) -> StartGrant? {
            state.withLock { state in
                guard state.slots > 0 else { return nil }
                state.open += 1
                return StartGrant(
                    id: Int64(state.open), slots: min(count, state.slots), kinds: kinds, defaultUserLimit: 2)
            }
        }

        func start(_ runs: [ClaimedRun], under grant: StartGrant) {
            state.withLock { state in
                state.slots -= runs.count
                state.runs += runs
            }
        }

        func didFinishRuns() {}

        func endStart(_ grant: StartGrant) { state.withLock { $0.open -= 1 } }
    }

    @Test(arguments: Implementation.allCases)
    func startsWithItsCommit(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let starter = Starter(bench.one, slots: 1)
            bench.one.store.startJobs(with: starter)
            let job = try await bench.enqueue {
                $0.payload = [1, 2]
                $0.maxAttempts = 4
            }
            #expect(job.state == .pending && job.sequence == 1)
            let run = try #require(starter.runs.first)
            #expect(starter.runs.count == 1 && starter.open == 0)
            #expect(run.key.id == job.id && run.spec.payload == [1, 2] && run.lastAttempt == 4)
            #expect(run.attempt == 1 && run.sequence == 2)
            #expect(try await bench.record(job.id).state == .running)
            #expect(bench.one.changes.events(of: job.id).map(\.type) == [.enqueued, .started])
            // There are no slots left.
            try await bench.enqueue { $0.userID = "v" }
            #expect(starter.runs.count == 1)
            #expect(try await bench.one.finish(run, .success) == .written)
        }
    }

    /// Each of these stands against a start, and none against the enqueueing.
    @Test(
        arguments: Implementation.allCases,
        ["delay", "kind", "full lane", "others wait", "paused", "limit 0", "no lease"])
    func waitsWhereItMayNotStart(_ implementation: Implementation, _ obstacle: String) async throws {
        try await ContractBench.with(implementation) { bench in
            let store = bench.one.store
            switch obstacle {
            case "full lane": for _ in 0..<2 { _ = try await bench.start() }
            case "others wait": try await bench.enqueue()
            case "paused": try await store.pause(true, queue: "default")
            case "limit 0": try await store.limitUser("u", queue: "default", to: 0)
            case "no lease": try await bench.cluster.pass(ContractBench.longLease)
            default: break
            }
            let starter = Starter(bench.one, slots: 100)
            store.startJobs(with: starter)
            let job = try await bench.enqueue {
                if obstacle == "delay" { $0.due = .after(.seconds(1000)) }
                if obstacle == "kind" { $0.kind = "other" }
            }
            #expect(starter.runs.isEmpty && starter.open == 0)
            #expect(try await bench.record(job.id).state == .pending)
        }
    }
}
