// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

/// What the engine asks of the place where jobs are kept. Postgres is one (`JobStore`); the model in memory that the
/// simulation uses is another. One suite of tests holds for both.
///
/// Every write of a run names its token (a fencing token): where the run has another by now, nothing is written. Every
/// operation may fail with `StoreError.unavailable`, which leaves open whether it took place.
package protocol EngineStore: Sendable {
    /// This node's number, once it is registered; 0 before.
    var nodeNumber: Int32 { get }

    // MARK: The node and its lease

    /// Announces a node under a new lease, and gives it a new number.
    ///
    /// - Returns: its number, and that of each of its kinds.
    func register(
        _ node: NodeDescription, lease: Duration
    ) async throws(StoreError) -> (node: Int32, kinds: [String: Int32])

    /// Replaces the kinds and the concurrency that this node has announced, under its number and lease.
    ///
    /// - Returns: the number of each kind. Nil: the lease has ended, and nothing was written.
    func announce(
        kinds: [String: Interruption], concurrency: Int
    ) async throws(StoreError) -> [String: Int32]?

    /// Renews the lease of this node and with it of all its runs, unless the lease has ended.
    ///
    /// - Parameter known: the tokens of the runs that the node knows of.
    func renew(lease: Duration, known: [Int64], timeout: Duration) async throws(StoreError) -> Renewal

    /// Ends this node's lease: others may take its runs at once.
    func endNode() async throws(StoreError)

    // MARK: Runs

    /// Starts up to `request.slots` waiting jobs for this node, never more of a user than the limit of its lane, and
    /// none unless the node has a lease.
    ///
    /// - Parameter nextMayBegin: called at most once, before the claim is committed, when another one may begin: it
    ///   takes other lanes.
    func claim(
        _ request: ClaimRequest, nextMayBegin: @escaping @Sendable (ClaimOutlook) -> Void
    ) async throws(StoreError) -> ClaimResult

    /// Ends a run; calls `completion` once it is committed. It must not block.
    func finish(
        _ ending: Ending, completion: @escaping @Sendable (Result<EndingOutcome, StoreError>) -> Void
    )

    /// Keeps the latest progress and the log lines of runs; those of runs that have lost their lease are dropped.
    func save(_ updates: [RunUpdate]) async throws(StoreError)

    /// Keeps what the next attempt receives. Throws `stale` where the run has lost its lease.
    func save(checkpoint: [UInt8], of key: JobKey, token: Int64) async throws(StoreError)

    /// The runs of this node that are asked to stop.
    func cancelRequests() async throws(StoreError) -> [(token: Int64, reason: String)]

    // MARK: Chores of the cluster

    /// Ends the leases that have run out, and returns runs of ended nodes, to be ended with `finish` under their own
    /// tokens: the node that does it first wins.
    func orphans() async throws(StoreError) -> (runs: [OrphanedRun], unknown: [UnknownPolicy])

    /// Makes jobs ready whose time has come, a bounded number.
    ///
    /// - Returns: how many, and how long until the next one is due; nil: none is scheduled.
    func promoteDue() async throws(StoreError) -> (promoted: Int, next: Duration?)

    /// Removes up to `countMax` jobs that became final longer ago than `retention`. Returns how many.
    func removeFinished(olderThan retention: Duration, atMost countMax: Int) async throws(StoreError) -> Int

    /// Removes entries of the change log that every reader has had time to read.
    func trimChanges() async throws(StoreError)

    /// Removes up to `countMax` audit entries that are older than `retention`. Returns how many.
    func trimAudit(olderThan retention: Duration, atMost countMax: Int) async throws(StoreError) -> Int
}

extension EngineStore {
    /// `finish` for a task.
    package func finish(_ ending: Ending) async throws(StoreError) -> EndingOutcome {
        let result = await withCheckedContinuation { continuation in
            finish(ending) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }
}
