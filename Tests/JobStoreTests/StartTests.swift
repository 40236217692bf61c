import JobModel
import JobStore
import Postgres
import Support
import Synchronization
import TestDatabase
import Testing

/// Jobs that start in the transaction that adds them.
@Suite struct StartTests {
    /// Grants up to its slots, and keeps what it was given.
    final class Starter: RunStarter {
        private struct State {
            var slots: Int
            var open: Set<Int64> = []
            var granted: Int64 = 0
            var runs: [ClaimedRun] = []
        }

        private let kinds: [Int32]
        private let limit: Int
        private let state: Mutex<State>

        init(_ bench: Bench, slots: Int = 100, limit: Int = 3) {
            kinds = bench.kinds
            self.limit = limit
            state = Mutex(State(slots: slots))
            bench.store.startJobs(with: self)
        }

        var runs: [ClaimedRun] { state.withLock(\.runs) }
        /// Grants, and those that were not ended.
        var grants: (all: Int64, open: Int) { state.withLock { ($0.granted, $0.open.count) } }

        func beginStart(upTo count: Int) -> StartGrant? {
            state.withLock { state in
                guard state.slots > 0 else { return nil }
                state.granted += 1
                state.open.insert(state.granted)
                return StartGrant(
                    id: state.granted, slots: min(count, state.slots), kinds: kinds, defaultUserLimit: limit)
            }
        }

        func start(_ runs: [ClaimedRun], under grant: StartGrant) {
            state.withLock { state in
                #expect(state.open.contains(grant.id) && runs.count <= grant.slots)
                state.slots -= runs.count
                state.runs += runs
            }
        }

        func didFinishRuns() {}

        func endStart(_ grant: StartGrant) {
            state.withLock { state in #expect(state.open.remove(grant.id) != nil) }
        }
    }

    private func enqueue(_ bench: Bench, _ specs: [JobSpec]) async throws -> [JobRecord] {
        try await withThrowingTaskGroup(of: (Int, JobRecord).self) { group in
            for (index, spec) in specs.enumerated() {
                group.addTask { (index, try await bench.enqueue(spec)) }
            }
            return try await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }

    private func isRefused(_ bench: Bench, _ spec: JobSpec = JobSpec(kind: "k", userID: "u")) async throws {
        let starter = Starter(bench)
        let job = try await bench.enqueue(spec)
        #expect(starter.runs.isEmpty && starter.grants.open == 0)
        #expect(try await bench.job(job.id).state == .pending)
    }

    @Test func startsWithItsCommit() async throws {
        try await Bench.with { bench in
            let starter = Starter(bench)
            let spec = JobSpec(
                kind: "k", userID: "u", queue: "q", payload: [1, 2], contentType: "x/y", maxAttempts: 4)
            let job = try await bench.enqueue(spec)
            // What is returned is the job as it was added: the next event is its start.
            #expect(job.state == .pending && job.sequence == 1)
            let run = try #require(starter.runs.first)
            #expect(starter.runs.count == 1 && starter.grants == (all: 1, open: 0))
            #expect(run.key.id == job.id && run.spec.payload == [1, 2] && run.spec.queue == "q")
            #expect(run.attempt == 1 && run.attemptsUsed == 1 && run.sequence == 2)
            let kept = try await bench.job(job.id)
            #expect(kept.state == .running && kept.attempt == 1 && kept.startedAt == run.startedAt)
            #expect(bench.changes.events(of: job.id).map(\.type) == [.enqueued, .started])
            #expect(try await bench.claim().isEmpty)
            #expect(try await bench.finish(run, .success) == .written)
            let events = try await bench.store.events(after: [run.key.number: 0])[run.key.number]
            #expect(events?.map(\.type) == [.enqueued, .started, .succeeded])
            #expect(events?.map(\.sequence) == [1, 2, 3])
        }
    }

    @Test func otherNodesHearOfBothEvents() async throws {
        try await Bench.with { bench in
            let starter = Starter(bench)
            let cursor = try await bench.store.openChanges()
            _ = try await bench.enqueue()
            #expect(starter.runs.count == 1)
            let changes = try await bench.store.changes(since: cursor, .allNodes).changes
            #expect(changes.map(\.sequence) == [1, 2])
        }
    }

    @Test func upToTheLimitOfTheLane() async throws {
        try await Bench.with { bench in
            let starter = Starter(bench, limit: 3)
            let jobs = try await enqueue(bench, (0..<20).map { JobSpec(kind: "k", userID: "u\($0 % 2)") })
            #expect(Set(starter.runs.map(\.token)).count == 6)
            for user in ["u0", "u1"] { #expect(starter.runs.count { $0.spec.userID.text == user } == 3) }
            let running = Set(starter.runs.map(\.key.id))
            for job in jobs {
                let state = try await bench.job(job.id).state
                #expect(state == (running.contains(job.id) ? .running : .pending))
            }
            #expect(starter.grants.open == 0)
        }
    }

    @Test func upToTheSlots() async throws {
        try await Bench.with { bench in
            let starter = Starter(bench, slots: 5)
            _ = try await enqueue(bench, (0..<20).map { JobSpec(kind: "k", userID: "u\($0)") })
            #expect(starter.runs.count == 5)
            #expect(try await bench.count("live WHERE state = 'ready'") == 15)
        }
    }

    @Test func whoWaitsInTheLaneGoesFirst() async throws {
        try await Bench.with { bench in
            _ = try await bench.enqueue()
            try await isRefused(bench)
            // Another lane is free.
            let starter = Starter(bench)
            _ = try await bench.enqueue(JobSpec(kind: "k", userID: "v"))
            #expect(starter.runs.count == 1)
        }
    }

    @Test func notBeforeItIsDue() async throws {
        try await Bench.with { bench in
            try await isRefused(bench, JobSpec(kind: "k", userID: "u", due: .after(.seconds(60))))
            try await isRefused(
                bench, JobSpec(kind: "k", userID: "u", due: .at(Timestamp.now.advanced(by: .seconds(60)))))
        }
    }

    @Test func notAKindOfAnother() async throws {
        try await Bench.with { bench in
            try await isRefused(bench, JobSpec(kind: "other", userID: "u"))
        }
    }

    @Test func notInAPausedQueue() async throws {
        try await Bench.with { bench in
            _ = try await bench.enqueue()
            _ = try await bench.claim()
            try await bench.script("UPDATE queue SET paused = true")
            try await isRefused(bench)
        }
    }

    @Test func notWithoutALease() async throws {
        try await Bench.with { bench in
            try await bench.script("UPDATE node SET lease_until = now() - interval '1 second'")
            try await isRefused(bench)
        }
    }

    /// While another session counts the lane's room, nobody else does.
    @Test(.timeLimit(.minutes(3))) func notInALaneThatAnotherHolds() async throws {
        try await Bench.with { bench in
            _ = try await bench.enqueue()
            _ = try await bench.claim()
            let holder = try Connection(bench.schema.connectionConfiguration())
            try holder.executeScript(
                "BEGIN; SELECT pg_advisory_xact_lock(('live'::regclass::oid::bigint << 32) | id) FROM lane")
            try await isRefused(bench)
            try holder.executeScript("COMMIT")
            #expect(try await bench.claim().count == 1)
            let starter = Starter(bench)
            // The lane is remembered as closed for a moment. What does not start meanwhile is taken out of the way.
            while starter.runs.isEmpty {
                _ = try await bench.enqueue()
                guard starter.runs.isEmpty else { break }
                for run in try await bench.claim() { try await bench.finish(run, .success) }
            }
            #expect(starter.runs.count == 1)
        }
    }

    @Test func theSameJobStartsOnce() async throws {
        try await Bench.with { bench in
            let starter = Starter(bench)
            let spec = JobSpec(kind: "k", userID: "u", idempotencyKey: "key")
            let jobs = try await enqueue(bench, Array(repeating: spec, count: 5))
            #expect(Set(jobs.map(\.id)).count == 1 && starter.runs.count == 1)
        }
    }

    /// Starts and claims of two nodes at once, over lanes that they share.
    @Test func neverOverTheLimit() async throws {
        try await Bench.with(connections: 8) { bench in
            let peer = try await bench.peer()
            let starter = Starter(bench, slots: 1000, limit: 3)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<200 {
                    group.addTask { try await bench.enqueue(JobSpec(kind: "k", userID: "u\(index % 10)")) }
                    if index % 5 == 0 { group.addTask { _ = try await bench.claim(50, limit: 3, by: peer) } }
                }
                try await group.waitForAll()
            }
            let most = try await bench.texts(
                "SELECT count(*)::text FROM live WHERE state = 'running' GROUP BY lane")
            #expect(most.allSatisfy { $0 == "1" || $0 == "2" || $0 == "3" }, "\(most)")
            while try await !bench.claim(50, limit: 3, by: peer).isEmpty {}
            #expect(try await bench.count("live WHERE state = 'running'") == 30)
            #expect(starter.grants.open == 0)
        }
    }
}
