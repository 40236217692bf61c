// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

/// The store of jobs, as the engine uses it. `JobStore` implements it with Postgres, and the simulation has a
/// model in memory. The same suite of tests runs against both.
///
/// Every write of a run names it by its `RunFence`. If the job has another run by now, or none, nothing is written. Every
/// operation may fail with `StoreError.unavailable`, after which it is unknown whether it took effect.
package protocol EngineStore: Sendable {
    /// This node's number once it is registered; 0 before.
    var nodeNumber: Int32 { get }

    // MARK: The node and its lease

    /// Announces a node under a new lease, and gives it a new number.
    ///
    /// - Returns: the numbers of the node and of each of its kinds.
    func register(
        _ node: NodeDescription, lease: Duration
    ) async throws(StoreError) -> (node: Int32, kinds: [String: Int32])

    /// Replaces the kinds and the concurrency that this node has announced, under its number and lease.
    ///
    /// - Returns: the number of each kind; nil if the lease has ended and nothing was written.
    func announce(
        kinds: [String: Interruption], concurrency: Int
    ) async throws(StoreError) -> [String: Int32]?

    /// Renews the lease of this node, and with it the lease of all its runs, unless it has ended.
    ///
    /// - Parameter known: the runs that the node knows of.
    func renew(lease: Duration, known: [RunFence], timeout: Duration) async throws(StoreError) -> Renewal

    /// Ends this node's lease. Other nodes may take its runs at once.
    func endNode() async throws(StoreError)

    // MARK: Runs

    /// Starts up to `request.slots` waiting jobs for this node. It never exceeds the limit of a lane, and starts
    /// none unless the node has a lease.
    ///
    /// - Parameter nextMayBegin: called at most once, before the claim is committed, when another claim may
    ///   begin, which takes other lanes.
    func claim(
        _ request: ClaimRequest, nextMayBegin: @escaping @Sendable (ClaimOutlook) -> Void
    ) async throws(StoreError) -> ClaimResult

    /// Ends a run, and calls `completion` once it is committed. `completion` must not block.
    func finish(
        _ finished: FinishedRun, completion: @escaping @Sendable (Result<FinishResult, StoreError>) -> Void
    )

    /// Saves the latest progress and the log lines of runs. Those of runs that have lost their lease are dropped.
    func save(_ updates: [RunUpdate]) async throws(StoreError)

    /// Saves the checkpoint for the next attempt. Throws `stale` if the run has lost its lease.
    func save(checkpoint: [UInt8], of run: RunFence) async throws(StoreError)

    /// The runs of this node that were asked to stop.
    func cancelRequests() async throws(StoreError) -> [(run: RunFence, note: String)]

    // MARK: Maintenance of the cluster

    /// Ends the leases that have expired, and returns runs of ended nodes. They are to be ended with `finish`
    /// as the runs that they are; the first node that does so wins.
    func orphans() async throws(StoreError) -> (runs: [OrphanedRun], unknown: [UnknownPolicy])

    /// Makes jobs ready that are due, the oldest first and up to 1,000.
    ///
    /// - Returns: how many, and how long until the next one is due; nil if none is scheduled.
    func promoteDue() async throws(StoreError) -> (promoted: Int, next: Duration?)

    /// Removes up to `countMax` jobs that became final longer ago than `retention`. Returns how many.
    func removeFinished(olderThan retention: Duration, atMost countMax: Int) async throws(StoreError) -> Int

    /// Removes entries of the change log that are so old that every reader has had time to read them.
    func trimChanges() async throws(StoreError)

    /// Removes up to `countMax` audit entries that are older than `retention`. Returns how many.
    func trimAudit(olderThan retention: Duration, atMost countMax: Int) async throws(StoreError) -> Int
}

extension EngineStore {
    /// Ends a run and returns once it is committed.
    package func finish(_ finished: FinishedRun) async throws(StoreError) -> FinishResult {
        let result = await withCheckedContinuation { continuation in
            finish(finished) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }
}
