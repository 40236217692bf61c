import JobModel

/// The slots of a node that are taken: by runs, and by grants, which hold slots for jobs that are being claimed or started.
/// Pure. Each pool of runners has slots of its own. Together its runs and grants never take more than it has.
struct SlotLedger: Sendable {
    typealias PoolID = Int

    private struct Pool: Sendable {
        let id: PoolID
        let concurrency: Int
        /// Numbers of its kinds; none before they are announced, and then nothing is granted.
        var kinds: [Int32] = []
        /// Runs whose handler has not ended.
        var running = 0
        /// Slots that grants hold.
        var held = 0
        /// Claims in flight. They may have counted a lane's room before a run there ended.
        var claims = 0
        /// Whether jobs may be waiting for a slot. Until a claim has looked, none starts in the transaction that
        /// enqueues it.
        var isBehind = true
        /// Whether jobs may be waiting for room in their lanes, which the end of a run makes.
        var mayWait = true
        /// Whether it gets no more runs, and is removed when its last one has ended.
        var isClosed = false

        var free: Int { max(0, concurrency - running - held) }
        var needsClaim: Bool { mayWait || isBehind || claims > 0 }
        /// Whether a job may start in it in the transaction that enqueues it.
        var mayStart: Bool { !isClosed && !isBehind && !kinds.isEmpty }
        var isUnused: Bool { running == 0 && held == 0 && claims == 0 }
    }

    private struct Holding: Sendable {
        let pool: PoolID
        var slots: Int
    }

    /// There are few, so they are searched from the first one on.
    private var pools: [Pool] = []
    private var grants: [Int64: [Holding]] = [:]
    private var lastGrant: Int64 = 0
    /// Earlier grants belong to a lease that was lost.
    private var firstGrantOfLease: Int64 = 1
    /// Whether runs may start, and running ones are still this node's.
    private(set) var hasLease = false
    private(set) var isStopping = false
    /// Runs whose end is not written yet.
    private var unwritten = 0

    private let defaultUserLimit: Int

    /// - Parameter defaultUserLimit: goes into every grant.
    init(defaultUserLimit: Int) {
        self.defaultUserLimit = defaultUserLimit
    }

    // MARK: Pools and the lease

    mutating func add(_ id: PoolID, concurrency: Int) {
        pools.append(Pool(id: id, concurrency: concurrency))
    }

    /// From now on the pool gets no grant. A run that is still granted to it is unwanted.
    mutating func close(_ id: PoolID) {
        change(id) { $0.isClosed = true }
        dropIfUnused(id)
    }

    /// Whether the pool is still known: a closed one is until its last run has ended.
    func has(_ id: PoolID) -> Bool { pools.contains { $0.id == id } }

    mutating func setKinds(_ kinds: [Int32], of id: PoolID) {
        change(id) { pool in
            guard pool.kinds != kinds else { return }
            pool.kinds = kinds
            // Jobs of the new kinds may have waited.
            pool.isBehind = true
            pool.mayWait = true
        }
    }

    /// Runs may start under a new lease.
    mutating func beginLease() {
        hasLease = true
        firstGrantOfLease = lastGrant + 1
    }

    mutating func loseLease() { hasLease = false }

    /// Nothing is granted any more.
    mutating func stop() { isStopping = true }

    // MARK: Grants

    /// Holds slots for a claim until `endClaim`. Nil: none is free, or nothing may start.
    mutating func beginClaim(for id: PoolID) -> StartGrant? {
        guard mayGrant, let index = index(of: id) else { return nil }
        let pool = pools[index]
        guard !pool.isClosed, !pool.kinds.isEmpty else { return nil }
        if pool.free == 0 { pools[index].isBehind = true }
        // While no job waits for slots, half of them are enough, and leave the others to jobs that are just enqueued.
        let slots = min(pool.isBehind ? pool.free : (pool.free + 1) / 2, ClaimRequest.runsMax)
        guard slots > 0 else { return nil }
        pools[index].held += slots
        pools[index].claims += 1
        return grant(slots, kinds: pool.kinds, [Holding(pool: id, slots: slots)])
    }

    /// The claim starts no more than that, so the other slots are free. No run of it has started yet.
    mutating func shrink(_ grant: StartGrant, to slots: Int) {
        guard let held = grants[grant.id]?.first, slots < held.slots else { return }
        grants[grant.id] = [Holding(pool: held.pool, slots: slots)]
        change(held.pool) { $0.held -= held.slots - slots }
    }

    /// - Parameter claimed: nil: the claim has failed.
    mutating func endClaim(_ grant: StartGrant, _ claimed: ClaimResult?) {
        guard let pool = grants[grant.id]?.first?.pool else { return }
        change(pool) { pool in
            if let claimed {
                pool.isBehind = claimed.runs.count == grant.slots
                // In the step in which the claim ends, so that `needsClaim` holds throughout: the claim may not have seen
                // the end of a run.
                if claimed.foundLanes { pool.mayWait = true }
            }
            pool.claims -= 1
        }
        release(grant)
    }

    /// Holds slots for up to `count` jobs of any kind that start as they are enqueued. Which kinds they are is not known
    /// yet, so the grant holds as many slots in each pool that has them. Nil: no pool has a slot, or others have waited
    /// longer.
    mutating func beginStart(upTo count: Int) -> StartGrant? {
        guard mayGrant else { return nil }
        var slots = 0
        for pool in pools where pool.mayStart { slots = max(slots, min(count, pool.free)) }
        guard slots > 0 else { return nil }
        var kinds: [Int32] = []
        var holdings: [Holding] = []
        for index in pools.indices where pools[index].mayStart && pools[index].free >= slots {
            pools[index].held += slots
            kinds = kinds.isEmpty ? pools[index].kinds : kinds + pools[index].kinds
            holdings.append(Holding(pool: pools[index].id, slots: slots))
        }
        return grant(slots, kinds: kinds, holdings)
    }

    /// Frees the slots that no run has taken.
    mutating func release(_ grant: StartGrant) {
        for held in grants.removeValue(forKey: grant.id) ?? [] {
            change(held.pool) { $0.held -= held.slots }
            dropIfUnused(held.pool)
        }
    }

    /// The pools that the grant holds slots in.
    func pools(of grant: StartGrant) -> [PoolID] { (grants[grant.id] ?? []).map(\.pool) }

    /// The newest grant so far, and the oldest that is still open (`Int64.max`: none is). A grant that was open at an
    /// earlier time is over once the oldest open one is newer than the newest of that time.
    var grantWindow: (newest: Int64, oldestOpen: Int64) { (lastGrant, grants.keys.min() ?? .max) }

    // MARK: Runs

    /// A slot that the grant holds becomes the run's. False: the run is unwanted, because the node began to stop, lost the
    /// lease under which it was granted, or closed the pool meanwhile.
    mutating func startRun(in id: PoolID, under grant: StartGrant) -> Bool {
        if let index = grants[grant.id]?.firstIndex(where: { $0.pool == id }) {
            grants[grant.id]?[index].slots -= 1
        }
        unwritten += 1
        var isClosed = false
        change(id) { pool in
            pool.held -= 1
            pool.running += 1
            isClosed = pool.isClosed
        }
        return !isStopping && hasLease && !isClosed && grant.id >= firstGrantOfLease
    }

    /// The end of a run is written, or never will be.
    mutating func runIsOver() { unwritten -= 1 }

    /// The handler of a run has ended.
    mutating func freeSlot(in id: PoolID) {
        change(id) { $0.running -= 1 }
        dropIfUnused(id)
    }

    // MARK: State of the pools

    /// Records that no job of a pool waits for room in a lane.
    mutating func noteEmptyBacklog(in id: PoolID) {
        change(id) { $0.mayWait = false }
    }

    /// The pools that could use a slot or room in a lane. Nil: there is none.
    var poolsNeedingClaim: [PoolID]? {
        guard pools.contains(where: \.needsClaim) else { return nil }
        return pools.filter(\.needsClaim).map(\.id)
    }

    /// The pools in which jobs may wait for a slot. Nil: none.
    var poolsBehind: [PoolID]? {
        guard pools.contains(where: \.isBehind) else { return nil }
        return pools.filter(\.isBehind).map(\.id)
    }

    var hasGrants: Bool { !grants.isEmpty }

    /// Nothing is on its way, and no end is left to be written.
    var isDrained: Bool { unwritten == 0 && grants.isEmpty }

    // MARK: Helpers

    private var mayGrant: Bool { hasLease && !isStopping }

    private mutating func grant(_ slots: Int, kinds: [Int32], _ holdings: [Holding]) -> StartGrant {
        lastGrant += 1
        grants[lastGrant] = holdings
        return StartGrant(id: lastGrant, slots: slots, kinds: kinds, defaultUserLimit: defaultUserLimit)
    }

    private func index(of id: PoolID) -> Int? { pools.firstIndex { $0.id == id } }

    private mutating func change(_ id: PoolID, _ body: (inout Pool) -> Void) {
        guard let index = index(of: id) else { return }
        body(&pools[index])
    }

    private mutating func dropIfUnused(_ id: PoolID) {
        pools.removeAll { $0.id == id && $0.isClosed && $0.isUnused }
    }
}
