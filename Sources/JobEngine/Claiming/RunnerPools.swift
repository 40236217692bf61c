// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

import JobModel
import Synchronization

/// The kinds and the concurrency of all pools, as they are announced to the cluster.
struct KindAnnouncement: Sendable {
    fileprivate let version: Int
    fileprivate let lease: Int
    let kinds: [String: Interruption]
    let concurrency: Int
}

/// The pools of this node. It is the one place that locks their slots: it asks the ledger under the lock, and wakes the
/// claimers that the answer concerns after it.
final class RunnerPools: Sendable {
    private struct State {
        var ledger: SlotLedger
        /// Those that are closed are among them until their last run has ended.
        var pools: [RunnerPool] = []
        var lastID: SlotLedger.PoolID = 0
        /// The kinds of the pools that are not closed.
        var kinds: Set<String> = []
        /// Grows when the kinds or the concurrency change.
        var version = 0
        /// The version that the node has announced under this lease.
        var announcedVersion = 0
        /// Counts registrations.
        var lease = 0

        mutating func setKinds(_ numbers: [String: Int32], announcedAs announcement: KindAnnouncement) {
            for pool in pools where !pool.isClosed {
                // A pool that was added later is not in this announcement.
                let kinds = pool.kinds.keys.compactMap { numbers[$0] }
                ledger.setKinds(kinds.sorted(), of: pool.id)
            }
            announcedVersion = announcement.version
        }

        var announcement: KindAnnouncement {
            var kinds: [String: Interruption] = [:]
            let open = pools.filter { !$0.isClosed }
            for pool in open { kinds.merge(pool.kinds) { older, _ in older } }
            return KindAnnouncement(
                version: version, lease: lease, kinds: kinds,
                concurrency: open.reduce(0) { $0 + $1.concurrency })
        }

        /// A pool was added or closed.
        mutating func poolsChanged() {
            // A closed pool is kept until its last run has ended.
            pools.removeAll { $0.isClosed && !ledger.has($0.id) }
            kinds = Set(pools.lazy.filter { !$0.isClosed }.flatMap { $0.kinds.keys })
            version += 1
        }

        var isQuiet: Bool { ledger.isStopping && !ledger.hasGrants }

        func pools(_ ids: [SlotLedger.PoolID]?) -> [RunnerPool] {
            guard let ids else { return [] }
            return ids.count == pools.count ? pools : pools.filter { ids.contains($0.id) }
        }
    }

    /// Every pool, as it is added; for one reader.
    let added: AsyncStream<RunnerPool>
    /// Woken when the kinds of this node are others than those that it has announced.
    let announcements = AutoResetEvent()
    private let adds: AsyncStream<RunnerPool>.Continuation
    private let runtime: EngineRuntime
    private let state: Mutex<State>
    /// Woken when the node stops and no grant is left.
    private let quiet = AutoResetEvent()

    init(defaultUserLimit: Int, runtime: EngineRuntime) {
        self.runtime = runtime
        state = Mutex(State(ledger: SlotLedger(defaultUserLimit: defaultUserLimit)))
        (added, adds) = AsyncStream.makeStream()
    }

    // MARK: Pools

    /// Its kinds are claimed once they are announced.
    func add(_ runners: [any JobRunner], concurrency: Int) -> RunnerPool {
        let pool = state.withLock { state in
            state.lastID += 1
            let pool = RunnerPool(id: state.lastID, runners: runners, concurrency: concurrency)
            state.pools.append(pool)
            state.ledger.add(pool.id, concurrency: concurrency)
            state.poolsChanged()
            return pool
        }
        adds.yield(pool)
        announcements.wake()
        return pool
    }

    /// The pool gets no more runs. Those that it has go on, and those that are just being claimed are given back.
    func remove(_ pool: RunnerPool) {
        state.withLock { state in
            pool.close()
            state.ledger.close(pool.id)
            state.poolsChanged()
        }
        pool.claims.wake()
        announcements.wake()
    }

    /// The kinds of all pools. Where two handle the same kind, the policy of the older pool counts.
    var announcement: KindAnnouncement { state.withLock { $0.announcement } }

    /// Whether a pool that is not closed handles the kind, announced or not.
    func handles(_ kind: String) -> Bool { state.withLock { $0.kinds.contains(kind) } }

    /// Nil: what was announced is current.
    var dueAnnouncement: KindAnnouncement? {
        state.withLock { $0.version == $0.announcedVersion ? nil : $0.announcement }
    }

    // MARK: The lease

    /// The node has registered, with these kinds under these numbers.
    func beginLease(_ announcement: KindAnnouncement, _ numbers: [String: Int32]) {
        state.withLock { state in
            state.lease += 1
            state.ledger.beginLease()
            state.setKinds(numbers, announcedAs: announcement)
        }
        announcements.wake()
        wakeAllClaimers()
    }

    /// The node has announced other kinds under its lease.
    func announced(_ announcement: KindAnnouncement, _ numbers: [String: Int32]) {
        state.withLock { state in
            // The node began anew meanwhile, and this went to the old one.
            guard announcement.lease == state.lease else { return }
            state.setKinds(numbers, announcedAs: announcement)
        }
        wakeAllClaimers()
    }

    /// From now on no run starts until `beginLease`.
    func loseLease() { state.withLock { $0.ledger.loseLease() } }

    var hasLease: Bool { state.withLock(\.ledger.hasLease) }

    // MARK: Slots

    func beginClaim(for pool: RunnerPool) -> StartGrant? {
        state.withLock { $0.ledger.beginClaim(for: pool.id) }
    }

    func shrink(_ grant: StartGrant, to slots: Int) {
        state.withLock { $0.ledger.shrink(grant, to: slots) }
    }

    /// - Parameter claimed: nil: the claim has failed.
    func endClaim(_ grant: StartGrant, _ claimed: ClaimResult?) {
        let isQuiet = state.withLock { state in
            state.ledger.endClaim(grant, claimed)
            return state.isQuiet
        }
        if isQuiet { quiet.wake() }
    }

    func noteEmptyBacklog(in pool: RunnerPool) {
        state.withLock { $0.ledger.noteEmptyBacklog(in: pool.id) }
    }

    func beginStart(upTo count: Int) -> StartGrant? {
        state.withLock { $0.ledger.beginStart(upTo: count) }
    }

    func endStart(_ grant: StartGrant) {
        let (isQuiet, behind) = state.withLock { state in
            state.ledger.release(grant)
            // A claim may have found no slot because this held the last ones.
            return (state.isQuiet, state.pools(state.ledger.poolsBehind))
        }
        if isQuiet { quiet.wake() }
        for pool in behind { pool.claims.wake() }
    }

    /// The pools that the grant holds slots in.
    func pools(of grant: StartGrant) -> [RunnerPool] {
        state.withLock { $0.pools($0.ledger.pools(of: grant)) }
    }

    var grantWindow: (newest: Int64, oldestOpen: Int64) { state.withLock(\.ledger.grantWindow) }

    // MARK: Runs

    /// False: the run is unwanted, and is to be given back unseen.
    func startRun(in pool: RunnerPool, under grant: StartGrant) -> Bool {
        state.withLock { $0.ledger.startRun(in: pool.id, under: grant) }
    }

    /// The end of a run is written, or never will be.
    ///
    /// - Parameter freesSlot: its handler has ended, too.
    func runIsOver(in pool: RunnerPool, freesSlot: Bool) {
        let isQuiet = state.withLock { state in
            state.ledger.runIsOver()
            if freesSlot { state.ledger.freeSlot(in: pool.id) }
            return state.isQuiet
        }
        if isQuiet { quiet.wake() }
    }

    func freeSlot(in pool: RunnerPool) {
        state.withLock { $0.ledger.freeSlot(in: pool.id) }
    }

    // MARK: Wakes

    func wakeAllClaimers() {
        for pool in state.withLock(\.pools) { pool.claims.wake() }
    }

    /// There is a slot, or room in a lane.
    func wakeWaitingClaimers() {
        for pool in state.withLock({ $0.pools($0.ledger.poolsNeedingClaim) }) { pool.claims.wake() }
    }

    // MARK: The end

    func stop() { state.withLock { $0.ledger.stop() } }

    var isStopping: Bool { state.withLock(\.ledger.isStopping) }

    /// Waits until every run has ended and its end is written. False: they had not by then. For one task at a time, after
    /// `stop`.
    func drained(within limit: Duration) async -> Bool { await wait(atMost: limit) { $0.isDrained } }

    /// Waits for the claims and starts that had begun before `stop`. For one task at a time.
    func endOfGrants(within limit: Duration) async { _ = await wait(atMost: limit) { !$0.hasGrants } }

    private func wait(
        atMost limit: Duration, until isOver: @Sendable (borrowing SlotLedger) -> Bool
    ) async -> Bool {
        let deadline = runtime.now() + limit
        while !state.withLock({ isOver($0.ledger) }) {
            let left = runtime.now().duration(to: deadline)
            guard left > .zero else { return false }
            await quiet.wait(atMost: left, on: runtime)
        }
        return true
    }
}
