import JobModel
import Testing

@testable import JobEngine

@Suite struct SlotLedgerTests {
    /// A ledger under a lease with pools 1, 2 and so on of so many slots. Pool 1 has kind 10, pool 2 kind 20.
    private func ledger(_ slots: Int...) -> SlotLedger {
        var ledger = SlotLedger(defaultUserLimit: 3)
        for (index, slots) in slots.enumerated() {
            ledger.add(index + 1, concurrency: slots)
            ledger.setKinds([Int32(10 * (index + 1))], of: index + 1)
        }
        ledger.beginLease()
        return ledger
    }

    private func result(_ count: Int = 0, found: Bool = false) -> ClaimResult {
        var result = ClaimResult()
        result.runs = (0..<count).map { ClaimedRun.sample(token: Int64($0)) }
        result.foundLanes = found
        return result
    }

    private func claim(_ ledger: inout SlotLedger, _ pool: SlotLedger.PoolID) throws -> StartGrant {
        let grant = ledger.beginClaim(for: pool)
        return try #require(grant)
    }

    private func start(_ ledger: inout SlotLedger, upTo count: Int) throws -> StartGrant {
        let grant = ledger.beginStart(upTo: count)
        return try #require(grant)
    }

    /// A claim that found nothing, after which jobs may start as they are enqueued.
    private func claimNothing(_ ledger: inout SlotLedger, _ pool: SlotLedger.PoolID) throws {
        let grant = try claim(&ledger, pool)
        ledger.endClaim(grant, result())
    }

    private func expectNothingIsGranted(
        _ ledger: inout SlotLedger, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let grants = [ledger.beginClaim(for: 1), ledger.beginStart(upTo: 1)].compactMap(\.self)
        #expect(grants.map(\.id) == [], sourceLocation: sourceLocation)
    }

    @Test func claimTakesFreeSlots() throws {
        var ledger = ledger(5)
        let grant = try claim(&ledger, 1)
        #expect(grant.slots == 5 && grant.kinds == [10] && grant.defaultUserLimit == 3)
        #expect(ledger.beginClaim(for: 1) == nil)
        #expect(ledger.startRun(in: 1, under: grant) == true)
        ledger.endClaim(grant, result(1))
        // Since no job waits for a slot, half of them are left to jobs that are just enqueued.
        #expect(ledger.beginClaim(for: 1)?.slots == 2)
    }

    @Test func claimIsBounded() {
        var ledger = ledger(1000)
        #expect(ledger.beginClaim(for: 1)?.slots == ClaimRequest.runsMax)
        #expect(ledger.beginClaim(for: 1)?.slots == ClaimRequest.runsMax)
    }

    @Test func fullClaimKeepsAllSlotsForClaims() throws {
        var ledger = ledger(4)
        let grant = try claim(&ledger, 1)
        for _ in 0..<4 { #expect(ledger.startRun(in: 1, under: grant) == true) }
        ledger.endClaim(grant, result(4))
        ledger.runIsOver()
        ledger.freeSlot(in: 1)
        #expect(ledger.beginStart(upTo: 1) == nil)
        #expect(ledger.poolsBehind == [1])
        #expect(ledger.beginClaim(for: 1)?.slots == 1)
    }

    /// A claim that finds no slot has left jobs waiting, for all that is known.
    @Test func claimWithoutSlotsForbidsStarts() throws {
        var ledger = ledger(1)
        try claimNothing(&ledger, 1)
        let start = try start(&ledger, upTo: 1)
        #expect(ledger.beginClaim(for: 1) == nil)
        ledger.release(start)
        #expect(ledger.beginStart(upTo: 1) == nil)
        #expect(ledger.poolsBehind == [1])
    }

    @Test func startHoldsNoMoreThanIsWanted() throws {
        var ledger = ledger(5)
        try claimNothing(&ledger, 1)
        let start = try start(&ledger, upTo: 2)
        #expect(start.slots == 2)
        #expect(ledger.startRun(in: 1, under: start) == true)
        ledger.release(start)
        #expect(ledger.beginStart(upTo: 100)?.slots == 4)
        #expect(ledger.beginStart(upTo: 1) == nil)
    }

    @Test func claimThatMayTakeLessFreesTheRest() throws {
        var ledger = ledger(8)
        let grant = try claim(&ledger, 1)
        ledger.shrink(grant, to: 3)
        let second = try claim(&ledger, 1)
        #expect(second.slots == 5)
        ledger.endClaim(grant, result())
        ledger.endClaim(second, nil)
        let third = try claim(&ledger, 1)
        // Never more than it was.
        ledger.shrink(third, to: 100)
        #expect(ledger.beginClaim(for: 1)?.slots == 2)
    }

    // MARK: Pools

    @Test func fullPoolHoldsUpNoOther() throws {
        var ledger = ledger(1, 4)
        let grant = try claim(&ledger, 1)
        #expect(ledger.startRun(in: 1, under: grant) == true)
        ledger.endClaim(grant, result(1))
        #expect(ledger.beginClaim(for: 1) == nil)
        let other = try claim(&ledger, 2)
        #expect(other.slots == 4 && other.kinds == [20])
        ledger.endClaim(other, result())
        let start = try start(&ledger, upTo: 1)
        #expect(start.kinds == [20] && ledger.pools(of: start) == [2])
    }

    @Test func startHoldsSlotsInEachPoolThatHasThem() throws {
        var ledger = ledger(2, 3)
        try claimNothing(&ledger, 1)
        try claimNothing(&ledger, 2)
        let one = try start(&ledger, upTo: 1)
        #expect(one.slots == 1 && one.kinds == [10, 20] && ledger.pools(of: one) == [1, 2])
        #expect(ledger.startRun(in: 2, under: one) == true)
        ledger.release(one)
        // Two in the first, and two in the second.
        let two = try start(&ledger, upTo: 2)
        #expect(two.slots == 2 && two.kinds == [10, 20])
        #expect(ledger.beginStart(upTo: 1) == nil)
        ledger.release(two)
        let more = try start(&ledger, upTo: 3)
        #expect(more.slots == 2 && more.kinds == [10, 20])
    }

    /// Which pool a job needs is not known yet, so each has to have all the slots of the grant.
    @Test func startLeavesOutAPoolThatHasFewer() throws {
        var ledger = ledger(1, 3)
        try claimNothing(&ledger, 1)
        try claimNothing(&ledger, 2)
        let start = try start(&ledger, upTo: 2)
        #expect(start.slots == 2 && start.kinds == [20])
    }

    @Test func closedPoolGetsNothing() throws {
        var ledger = ledger(2, 2)
        try claimNothing(&ledger, 1)
        try claimNothing(&ledger, 2)
        let claim = try claim(&ledger, 2)
        ledger.close(2)
        #expect(ledger.beginClaim(for: 2) == nil)
        #expect(ledger.beginStart(upTo: 1)?.kinds == [10])
        // What was on its way is given back.
        #expect(ledger.startRun(in: 2, under: claim) == false)
        ledger.endClaim(claim, result(1))
        #expect(ledger.has(2))
        ledger.runIsOver()
        ledger.freeSlot(in: 2)
        #expect(!ledger.has(2) && ledger.has(1))
    }

    @Test func poolWithoutAnnouncedKindsGetsNothing() throws {
        var ledger = SlotLedger(defaultUserLimit: 1)
        ledger.add(1, concurrency: 4)
        ledger.beginLease()
        expectNothingIsGranted(&ledger)
        ledger.setKinds([7], of: 1)
        try claimNothing(&ledger, 1)
        #expect(ledger.beginStart(upTo: 1) != nil)
    }

    /// Jobs of a new kind may have waited for longer than one that is just enqueued.
    @Test func newKindsAreClaimedBeforeJobsStart() throws {
        var ledger = ledger(4)
        try claimNothing(&ledger, 1)
        ledger.setKinds([10], of: 1)
        #expect(ledger.beginStart(upTo: 1) != nil)
        ledger.setKinds([10, 11], of: 1)
        #expect(ledger.beginStart(upTo: 1) == nil)
    }

    // MARK: Lease and end

    @Test func nothingIsGrantedWithoutALease() throws {
        var ledger = ledger(2)
        try claimNothing(&ledger, 1)
        ledger.loseLease()
        expectNothingIsGranted(&ledger)
        ledger.beginLease()
        #expect(ledger.beginClaim(for: 1) != nil)
        ledger.stop()
        expectNothingIsGranted(&ledger)
    }

    @Test func runOfALostLeaseIsUnwanted() throws {
        var ledger = ledger(4)
        let before = try claim(&ledger, 1)
        ledger.loseLease()
        #expect(ledger.startRun(in: 1, under: before) == false)
        ledger.beginLease()
        #expect(ledger.startRun(in: 1, under: before) == false)
        ledger.endClaim(before, result(2))
        let after = try claim(&ledger, 1)
        #expect(ledger.startRun(in: 1, under: after) == true)
        ledger.stop()
        #expect(ledger.startRun(in: 1, under: after) == false)
    }

    @Test func drainedOnceNothingIsOnItsWay() throws {
        var ledger = ledger(2)
        let grant = try claim(&ledger, 1)
        ledger.stop()
        #expect(!ledger.isDrained && ledger.hasGrants)
        _ = ledger.startRun(in: 1, under: grant)
        ledger.endClaim(grant, result(1))
        #expect(!ledger.isDrained && !ledger.hasGrants)
        // Whether or not its handler has ended.
        ledger.runIsOver()
        #expect(ledger.isDrained)
    }

    @Test func grantWindow() throws {
        var ledger = ledger(9)
        #expect(ledger.grantWindow == (0, .max))
        let first = try claim(&ledger, 1)
        ledger.shrink(first, to: 1)
        let second = try claim(&ledger, 1)
        #expect(ledger.grantWindow == (second.id, first.id))
        ledger.endClaim(first, nil)
        #expect(ledger.grantWindow == (second.id, second.id))
    }

    // MARK: Wakes

    @Test func endOfARunWakesWhereSomethingMayWait() throws {
        var ledger = ledger(4, 4)
        #expect(ledger.poolsNeedingClaim == [1, 2])
        for pool in 1...2 {
            try claimNothing(&ledger, pool)
            ledger.noteEmptyBacklog(in: pool)
        }
        #expect(ledger.poolsNeedingClaim == nil)
        // A claim under way may have counted the lane's room before the run ended.
        let claim = try claim(&ledger, 2)
        #expect(ledger.poolsNeedingClaim == [2])
        ledger.endClaim(claim, result(0, found: true))
        #expect(ledger.poolsNeedingClaim == [2])
        ledger.noteEmptyBacklog(in: 2)
        #expect(ledger.poolsNeedingClaim == nil)
    }
}
