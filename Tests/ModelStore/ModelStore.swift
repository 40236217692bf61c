package import JobModel
package import Support
import Synchronization

/// One node's way to a `ModelDatabase`: what `JobStore` is to Postgres. Every call takes effect at once and is answered
/// at once, on the caller's thread.
package final class ModelStore: EngineStore {
    private struct State {
        var node: Int32 = 0
        var observer: (@Sendable ([LocalChange]) -> Void)?
        var starter: (any RunStarter)?
    }

    package let database: ModelDatabase
    private let state: Mutex<State>

    /// - Parameter node: the number that it has registered before; 0: none.
    package init(_ database: ModelDatabase, node: Int32 = 0) {
        self.database = database
        state = Mutex(State(node: node))
    }

    package var nodeNumber: Int32 { state.withLock(\.node) }
    private var starter: (any RunStarter)? { state.withLock(\.starter) }

    /// Tells `observer` of everything that this node commits from now on.
    package func observe(_ observer: @escaping @Sendable ([LocalChange]) -> Void) {
        state.withLock { $0.observer = observer }
    }

    package func startJobs(with starter: any RunStarter) {
        state.withLock { $0.starter = starter }
    }

    private func publish(_ changes: [LocalChange]) {
        guard !changes.isEmpty else { return }
        state.withLock(\.observer)?(changes)
    }

    // MARK: The node and its lease

    package func register(
        _ node: NodeDescription, lease: Duration
    ) throws(StoreError) -> (node: Int32, kinds: [String: Int32]) {
        let registered = try database.transaction { $0.register(node, lease: lease, at: $1) }
        state.withLock { $0.node = registered.node }
        return registered
    }

    package func announce(
        kinds: [String: Interruption], concurrency: Int
    ) throws(StoreError) -> [String: Int32]? {
        let node = nodeNumber
        return try database.transaction { $0.announce(kinds, by: node, at: $1) }
    }

    package func renew(lease: Duration, known: [RunFence], timeout: Duration) throws(StoreError) -> Renewal {
        let node = nodeNumber
        return try database.transaction { $0.renew(node, lease: lease, known: known, at: $1) }
    }

    package func endNode() throws(StoreError) {
        let node = nodeNumber
        try database.transaction { $0.endNode(node, at: $1) }
    }

    // MARK: Runs

    package func claim(
        _ request: ClaimRequest, nextMayBegin: @escaping @Sendable (ClaimOutlook) -> Void
    ) throws(StoreError) -> ClaimResult {
        try claim(request, isHeld: { _ in false }, nextMayBegin: nextMayBegin)
    }

    /// - Parameter isHeld: whether another node is just claiming from a lane.
    package func claim(
        _ request: ClaimRequest, isHeld: (Int64) -> Bool, nextMayBegin: (ClaimOutlook) -> Void
    ) throws(StoreError) -> ClaimResult {
        let node = nodeNumber
        let (result, name) = try database.transaction { tables, now in
            let result = tables.claim(
                request, for: node, at: now, isHeld: isHeld, nextMayBegin: nextMayBegin)
            return (result, tables.node(node)?.name ?? "")
        }
        publish(result.runs.map { .event($0.startedEvent(node: name), $0.key) })
        return result
    }

    package func finish(
        _ finished: FinishedRun, completion: @escaping @Sendable (Result<FinishResult, StoreError>) -> Void
    ) {
        let outcome = Result { () throws(StoreError) in try finish(inOneCommit: [finished])[0] }
        completion(outcome)
        starter?.didFinishRuns()
    }

    /// Ends runs in one commit, as a group commit does. `completion` of `finish` has not heard of it.
    package func finish(inOneCommit finishedRuns: [FinishedRun]) throws(StoreError) -> [FinishResult] {
        let results = try database.transaction { $0.finish(finishedRuns, at: $1) }
        publish(
            zip(finishedRuns, results).compactMap { finished, result in
                result.event.map { .event($0, finished.key) }
            })
        return results.map(\.outcome)
    }

    package func save(_ updates: [RunUpdate]) throws(StoreError) {
        try database.transaction { tables, _ in tables.save(updates) }
    }

    package func save(checkpoint: [UInt8], of run: RunFence) throws(StoreError) {
        try database.transaction { tables, _ throws(StoreError) in
            try tables.save(checkpoint: checkpoint, of: run)
        }
    }

    package func cancelRequests() throws(StoreError) -> [(run: RunFence, note: String)] {
        let node = nodeNumber
        return try database.transaction { tables, _ in tables.cancelRequests(of: node) }
    }

    // MARK: Chores of the cluster

    package func orphans() throws(StoreError) -> (runs: [OrphanedRun], unknown: [UnknownPolicy]) {
        (try database.transaction { $0.orphans(at: $1) }, [])
    }

    package func promoteDue() throws(StoreError) -> (promoted: Int, next: Duration?) {
        try database.transaction { $0.promoteDue(at: $1) }
    }

    package func removeFinished(olderThan retention: Duration, atMost countMax: Int) throws(StoreError) -> Int
    {
        try database.transaction { $0.removeFinished(olderThan: retention, atMost: countMax, at: $1) }
    }

    /// There is no change log in the model: what a node is told of others is up to the simulation.
    package func trimChanges() throws(StoreError) {}

    package func trimAudit(olderThan retention: Duration, atMost countMax: Int) throws(StoreError) -> Int {
        try database.transaction { $0.trimAudit(olderThan: retention, atMost: countMax, at: $1) }
    }

    // MARK: What clients ask for

    package func enqueue(_ job: NewJob) throws(StoreError) -> Enqueued {
        let starter = starter
        let grant = starter?.beginStart(upTo: 1)
        defer { if let grant { starter?.endStart(grant) } }
        let result = try enqueue(job, under: grant)
        if let run = result.run, let grant { starter?.start([run], under: grant) }
        return result.enqueued
    }

    /// Enqueues a job, and leaves it to the caller to begin its run.
    package func enqueue(_ job: NewJob, under grant: StartGrant?) throws(StoreError) -> ModelEnqueued {
        let node = nodeNumber
        let result = try database.transaction { tables, now throws(StoreError) in
            try tables.enqueue(job, under: grant, on: node, at: now)
        }
        publish(result.events.map { .event($0.event, $0.key) })
        return result
    }

    package func cancel(
        _ id: JobID, note: String, expectedSequence: Int64 = 0, for users: UserScope = .all
    ) throws(StoreError) -> JobRecord? {
        let change = try database.transaction { tables, now throws(StoreError) in
            try tables.cancel(
                id, note: note, expectedSequence: expectedSequence, for: users, at: now)
        }
        switch change {
        case .nothing: break
        case .cancelled(let event, let key): publish([.event(event, key)])
        case .asked(let event, let key, let run, let node):
            publish([.event(event, key), .cancelRequested(key, run, node: node, note: note)])
        }
        return job(id)
    }

    package func retry(
        _ id: JobID, expectedSequence: Int64 = 0, for users: UserScope = .all
    ) throws(StoreError) -> JobRecord? {
        let (event, key) = try database.transaction { tables, now throws(StoreError) in
            try tables.retry(id, expectedSequence: expectedSequence, for: users, at: now)
        }
        publish([.event(event, key)])
        return job(id)
    }

    package func setPaused(_ isPaused: Bool, queue: ExactText) throws(StoreError) {
        try database.transaction { tables, _ in tables.setPaused(isPaused, queue: queue) }
    }

    package func setQueueLimit(_ limit: Int, queue: ExactText) throws(StoreError) {
        try database.transaction { tables, _ in tables.setQueueLimit(limit, queue: queue) }
    }

    package func setUserLimit(_ limit: Int?, userID: ExactText, queue: ExactText) throws(StoreError) {
        try database.transaction { tables, _ in tables.setUserLimit(limit, userID: userID, queue: queue) }
    }

    // MARK: Reads, for checks

    /// The job with its attempts and its log.
    package func job(_ id: JobID) -> JobRecord? { database.read { $0.job(id)?.record } }

    package func events(of id: JobID) -> [JobEvent] { database.read { $0.job(id)?.events ?? [] } }
}
