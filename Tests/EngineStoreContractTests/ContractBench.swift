import FoundationEssentials
import JobModel
import Support
import Synchronization

/// A registered node of the store under test.
struct Node: Sendable {
    let name: String
    let store: any ContractStore
    let kinds: [Int32]
    let changes: PublishedChanges

    func claim(
        _ slots: Int = 100, limit: Int = 100, kinds: [Int32]? = nil, from cursor: ClaimCursor = ClaimCursor(),
        _ nextMayBegin: @escaping @Sendable (ClaimOutlook) -> Void = { _ in }
    ) async throws -> ClaimResult {
        try await store.claim(
            ClaimRequest(slots: slots, kinds: kinds ?? self.kinds, cursor: cursor, defaultUserLimit: limit),
            nextMayBegin: nextMayBegin)
    }

    @discardableResult
    func finish(_ run: ClaimedRun, _ verdict: Verdict) async throws -> FinishResult {
        try await store.finish(FinishedRun(run, node: name, verdict: verdict))
    }

    func renew(known: [RunFence] = [], lease: Duration = ContractBench.longLease) async throws -> Renewal {
        try await store.renew(lease: lease, known: known, timeout: .seconds(10))
    }
}

/// What a node was told, in order.
final class PublishedChanges: Sendable {
    private let changes = Mutex<[LocalChange]>([])

    func add(_ new: [LocalChange]) { changes.withLock { $0 += new } }

    func events(of id: JobID) -> [JobEvent] {
        changes.withLock { changes in
            changes.compactMap { if case .event(let event, _) = $0, event.jobID == id { event } else { nil } }
        }
    }

    var cancels: [(run: RunFence, node: Int32, note: String)] {
        changes.withLock { changes in
            changes.compactMap {
                if case .cancelRequested(_, let run, let node, let note) = $0 {
                    (run, node, note)
                } else {
                    nil
                }
            }
        }
    }
}

/// A cluster of which one node is registered, named `one`.
struct ContractBench: Sendable {
    /// Postgres has the real time, which goes on while a test runs: what a test lets pass is much longer.
    static let longLease: Duration = .seconds(10_000)

    let cluster: any ContractCluster
    let one: Node

    static func with(
        _ implementation: Implementation, kinds: [String: Interruption] = ["k": .retry],
        lease: Duration = ContractBench.longLease, _ body: (ContractBench) async throws -> Void
    ) async throws {
        try await implementation.withCluster { cluster in
            let one = try await node("one", in: cluster, kinds: kinds, lease: lease)
            try await body(ContractBench(cluster: cluster, one: one))
        }
    }

    func peer(
        _ name: String = "two", kinds: [String: Interruption] = ["k": .retry],
        lease: Duration = ContractBench.longLease
    ) async throws -> Node {
        try await Self.node(name, in: cluster, kinds: kinds, lease: lease)
    }

    private static func node(
        _ name: String, in cluster: any ContractCluster, kinds: [String: Interruption], lease: Duration
    ) async throws -> Node {
        let store = cluster.store()
        let changes = PublishedChanges()
        store.observe { changes.add($0) }
        let registered = try await store.register(description(name, kinds: kinds), lease: lease)
        return Node(name: name, store: store, kinds: registered.kinds.values.sorted(), changes: changes)
    }

    static func description(_ name: String, kinds: [String: Interruption] = ["k": .retry]) -> NodeDescription
    {
        NodeDescription(id: UUID(), name: name, version: "1", concurrency: 10, kinds: kinds)
    }

    /// The changes are to a job of kind `k`, user `u` and the default queue.
    @discardableResult
    func enqueue(_ change: (inout JobSpec) -> Void = { _ in }) async throws -> JobRecord {
        var spec = JobSpec(kind: "k", userID: "u")
        change(&spec)
        return try await one.store.enqueue(NewJob(spec: spec, now: .now, by: .with(.all))).job
    }

    /// Enqueues a job, and claims it.
    func start(_ change: (inout JobSpec) -> Void = { _ in }) async throws -> ClaimedRun {
        let job = try await enqueue(change)
        return try await claimed(job.id)
    }

    func claimed(_ id: JobID, by node: Node? = nil) async throws -> ClaimedRun {
        guard let run = try await (node ?? one).claim().runs.first(where: { $0.key.id == id }) else {
            throw Unexpected("the job was not claimed")
        }
        return run
    }

    func record(_ id: JobID) async throws -> JobRecord {
        guard let job = try await one.store.record(id) else { throw Unexpected("no job \(id)") }
        return job
    }

    func events(_ id: JobID) async throws -> [JobEvent] {
        try await one.store.history(try await record(id))
    }
}

extension Verdict {
    static let success = Verdict.final(.succeeded, nil, JobResult(data: [7], contentType: "x/y"))
    static let failure = Verdict.final(.failed, JobError(message: "oops", cause: .handler), nil)
    static let cancelled = Verdict.final(.cancelled, JobError(message: "why", cause: .cancelled), nil)
    static let released = Verdict.again(
        .released, JobError(message: "m", cause: .released), after: nil, countsAttempt: false)

    static func again(after delay: Duration = .zero, cause: FailureCause = .handler) -> Verdict {
        .again(.retryScheduled, JobError(message: "m", cause: cause), after: delay, countsAttempt: true)
    }
}
