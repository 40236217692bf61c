import Testing

@testable import JobStore

@Suite struct ClosedLanesTests {
    private let start = ContinuousClock.now
    private let first: [Int64] = [1]

    @Test func closedForAMoment() {
        let lanes = ClosedLanes()
        #expect(lanes.open(of: [1, 2], now: start) == [1, 2])
        lanes.add(first, now: start)
        #expect(lanes.open(of: [1, 2], now: start) == [2])
        #expect(lanes.open(of: [1], now: start + .milliseconds(9)).isEmpty)
        #expect(lanes.open(of: [1, 2], now: start + .milliseconds(50)) == [1, 2])
    }

    @Test func closedOnceMoreCountsFromThen() {
        let lanes = ClosedLanes()
        lanes.add(first, now: start)
        lanes.add(first, now: start + .milliseconds(50))
        #expect(lanes.open(of: [1], now: start + .milliseconds(59)).isEmpty)
        #expect(lanes.open(of: [1], now: start + .milliseconds(100)) == [1])
    }

    /// To forget a lane costs a statement, to keep them all costs memory for ever.
    @Test func emptiedWhenFull() {
        let lanes = ClosedLanes()
        lanes.add(Int64(0)..<20_000, now: start)
        #expect(lanes.open(of: [5], now: start).isEmpty)
        lanes.add([Int64(20_000)], now: start)
        #expect(lanes.open(of: [5, 20_000], now: start) == [5])
    }
}
