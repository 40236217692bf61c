import JobModel
import Testing

@testable import JobEngine

@Suite struct ClaimMachineTests {
    private typealias Action = ClaimMachine.Action

    private static func cursor(_ lane: Int64) -> ClaimCursor {
        var cursor = ClaimCursor()
        cursor.lane = lane
        return cursor
    }

    private func claim(from lane: Int64) -> Action { .claim(from: Self.cursor(lane)) }

    private func outlook(_ lane: Int64) -> ClaimOutlook {
        ClaimOutlook(cursor: Self.cursor(lane), runsMax: 1)
    }

    /// - Parameters:
    ///   - lane: where the claim got to; 0: to the end of the lanes.
    ///   - found: there was something ready, whether or not it could start.
    private func result(
        runs: Int = 0, lane: Int64 = 0, hasMore: Bool = false, isContended: Bool = false, found: Bool = false
    ) -> ClaimResult {
        var result = ClaimResult()
        result.runs = (0..<runs).map { ClaimedRun.sample(token: Int64($0)) }
        result.cursor = Self.cursor(lane)
        result.hasMore = hasMore
        result.isContended = isContended
        result.foundLanes = found || runs > 0
        return result
    }

    /// A machine whose first claim was begun.
    private func begun(after idle: Duration = .seconds(1)) -> ClaimMachine {
        var machine = ClaimMachine()
        #expect(machine.start == .wait)
        #expect(machine.woken(after: idle) == claim(from: 0))
        return machine
    }

    /// A machine with one claim under way, behind which the next was begun, from lane 5 on.
    private func overlapping() -> ClaimMachine {
        var machine = begun()
        #expect(machine.began(outlook(5)) == claim(from: 5))
        return machine
    }

    // MARK: Bursts

    @Test func nothingToClaim() {
        var machine = begun()
        #expect(machine.began(nil) == .join)
        #expect(machine.joined(result(), random: 0) == .noteEmptyBacklog)
        #expect(machine.noted(random: 0) == .wait)
    }

    @Test func noSlotsEndABurst() {
        var machine = begun()
        #expect(machine.noSlots(random: 0) == .wait)
        #expect(machine.woken(after: .zero) == claim(from: 0))
    }

    @Test func failureEndsABurstAndTheNextGoesOnWhereItWas() {
        var machine = begun()
        _ = machine.began(nil)
        #expect(machine.joined(result(runs: 1, lane: 5, hasMore: true), random: 0) == claim(from: 5))
        _ = machine.began(nil)
        #expect(machine.joined(nil, random: 0) == .wait)
        #expect(machine.woken(after: .zero) == claim(from: 5))
    }

    /// There may be more than the slots of one claim, or room that its runs left.
    @Test func aPassThatStartsSomethingIsFollowedByAnother() {
        var machine = begun()
        for _ in 0..<3 {
            _ = machine.began(nil)
            #expect(machine.joined(result(runs: 2, hasMore: true), random: 0) == claim(from: 0))
        }
        _ = machine.began(nil)
        #expect(machine.joined(result(hasMore: true, found: true), random: 0) == .wait)
    }

    /// The first pass may have begun in the middle, so lanes before that were not looked at.
    @Test func firstPassThatStartsNothingIsFollowedByAnother() {
        var machine = begun()
        _ = machine.began(nil)
        #expect(machine.joined(result(hasMore: true, found: true), random: 0) == claim(from: 0))
        _ = machine.began(nil)
        #expect(machine.joined(result(hasMore: true, found: true), random: 0) == .wait)
    }

    @Test func burstEndsWhenThereIsNoMore() {
        var machine = begun()
        _ = machine.began(nil)
        #expect(machine.joined(result(runs: 1), random: 0) == .wait)
    }

    // MARK: Pauses

    /// One burst that finds nothing, after a wait; its last action.
    private func findNothing(_ machine: inout ClaimMachine, after idle: Duration, random: Double) -> Action {
        _ = machine.woken(after: idle)
        _ = machine.began(nil)
        #expect(machine.joined(result(), random: random) == .noteEmptyBacklog)
        return machine.noted(random: random)
    }

    @Test func burstsThatFindNothingArePausedLongerAndLonger() {
        var machine = ClaimMachine()
        for milliseconds in [1, 2, 4, 8, 16, 16] {
            let action = findNothing(&machine, after: .milliseconds(16), random: 0)
            #expect(action == .pause(.milliseconds(milliseconds) / 2))
            #expect(machine.paused(random: 0) == .wait)
        }
        #expect(
            findNothing(&machine, after: .milliseconds(16), random: 0.5) == .pause(.milliseconds(12)))
    }

    @Test func pausesBeginAnewAfterABurstThatStartedSomething() {
        var machine = ClaimMachine()
        for _ in 0..<4 {
            _ = findNothing(&machine, after: .zero, random: 0)
            _ = machine.paused(random: 0)
        }
        _ = machine.woken(after: .zero)
        _ = machine.began(nil)
        #expect(machine.joined(result(runs: 1), random: 0) == .wait)
        #expect(findNothing(&machine, after: .zero, random: 0) == .pause(.microseconds(500)))
    }

    /// A claimer that nothing has woken for a while looks at once, and does not hold up the next wake.
    @Test func idleClaimerDoesNotPause() {
        var machine = ClaimMachine()
        for _ in 0..<4 {
            _ = findNothing(&machine, after: .zero, random: 0)
            _ = machine.paused(random: 0)
        }
        #expect(findNothing(&machine, after: .milliseconds(17), random: 0) == .wait)
        // The pauses begin anew.
        #expect(findNothing(&machine, after: .zero, random: 0) == .pause(.microseconds(500)))
    }

    /// The last pass found nothing, but an earlier one has started something: more may come.
    @Test func burstThatStartedSomethingIsNotPaused() {
        var machine = begun(after: .zero)
        _ = machine.began(nil)
        #expect(machine.joined(result(runs: 1, hasMore: true), random: 0) == claim(from: 0))
        _ = machine.began(nil)
        #expect(machine.joined(result(), random: 0) == .noteEmptyBacklog)
        #expect(machine.noted(random: 0) == .wait)
    }

    // MARK: Overlap

    @Test func secondClaimGoesOnBehindTheFirst() {
        var machine = overlapping()
        // The older is joined before the newer decides.
        #expect(machine.began(nil) == .join)
        #expect(machine.joined(result(runs: 1, lane: 5, hasMore: true), random: 0) == .join)
        // The runs of the older claim count for the pass, so another follows.
        #expect(machine.joined(result(hasMore: true, found: true), random: 0) == claim(from: 0))
    }

    @Test func claimsOverlapInARow() {
        var machine = overlapping()
        #expect(machine.began(outlook(9)) == .join)
        #expect(machine.joined(result(runs: 1, lane: 5), random: 0) == claim(from: 9))
        #expect(machine.began(outlook(12)) == .join)
        #expect(machine.joined(result(runs: 1, lane: 9), random: 0) == claim(from: 12))
    }

    @Test func claimThatHoldsTheLastSlotsIsWaitedFor() {
        var machine = overlapping()
        #expect(machine.noSlots(random: 0) == .join)
        // Its result ends nothing, and moves the cursor nowhere.
        #expect(machine.joined(result(lane: 3), random: 0) == claim(from: 5))
        #expect(machine.noSlots(random: 0) == .wait)
    }

    @Test func claimThatHoldsTheLastSlotsFails() {
        var machine = overlapping()
        #expect(machine.noSlots(random: 0) == .join)
        #expect(machine.joined(nil, random: 0) == .wait)
    }

    @Test func olderClaimFailsAndTheNewerIsWaitedFor() {
        for newest in [nil, outlook(9)] {
            var machine = overlapping()
            #expect(machine.began(newest) == .join)
            #expect(machine.joined(nil, random: 0) == .join)
            #expect(machine.joined(result(runs: 3, hasMore: true), random: 0) == .wait)
        }
    }

    // MARK: Contention

    @Test func anotherNodeHoldsTheLanes() {
        var machine = begun()
        _ = machine.began(nil)
        #expect(
            machine.joined(result(lane: 7, isContended: true), random: 0) == .pause(.milliseconds(5)))
        #expect(machine.paused(random: 0.5) == claim(from: 4))
        // The highest lane that was seen counts, and the last number below 1 stays in range.
        _ = machine.began(nil)
        #expect(
            machine.joined(result(lane: 2, isContended: true), random: 0) == .pause(.milliseconds(5)))
        #expect(machine.paused(random: 1.0.nextDown) == claim(from: 7))
    }

    /// Even when that was the end of the lanes, and after a whole pass.
    @Test func contentionBeginsPassesAnew() {
        var machine = begun()
        _ = machine.began(nil)
        #expect(machine.joined(result(hasMore: true, found: true), random: 0) == claim(from: 0))
        _ = machine.began(nil)
        #expect(machine.joined(result(isContended: true), random: 0) == .pause(.milliseconds(5)))
        #expect(machine.paused(random: 0) == claim(from: 0))
        _ = machine.began(nil)
        #expect(machine.joined(result(hasMore: true, found: true), random: 0) == claim(from: 0))
    }

    @Test func contendedClaimThatStartsSomethingGoesOn() {
        var machine = begun()
        _ = machine.began(nil)
        #expect(
            machine.joined(result(runs: 1, lane: 7, hasMore: true, isContended: true), random: 0)
                == claim(from: 7))
    }
}
