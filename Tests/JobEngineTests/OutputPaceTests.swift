import Testing

@testable import JobEngine

@Suite struct OutputPaceTests {
    private let start = ContinuousClock.now

    @Test func aCommandThatWritesALotForAWhileDoesNotWait() {
        var pace = OutputPace(now: start)
        #expect(pace.read(bytes: 100 << 20, lines: 1, now: start) == .zero)
        pace = OutputPace(now: start)
        #expect(pace.read(bytes: 80_000, lines: 40_000, now: start) == .zero)
    }

    @Test func aFloodIsReadAtItsPace() {
        var pace = OutputPace(now: start)
        var now = start
        var lines = 0
        // As `yes` writes: 32,768 lines in each chunk.
        while now < start + .seconds(100) {
            now += pace.read(bytes: 64 << 10, lines: 32 << 10, now: now)
            lines += 32 << 10
        }
        #expect((1_000_000...1_200_000).contains(lines))
        // What was not read meanwhile adds up to the burst, and to no more.
        #expect(pace.read(bytes: 100 << 20, lines: 0, now: now + .seconds(10)) == .zero)
        #expect(pace.read(bytes: 100 << 20, lines: 0, now: now + .seconds(10)) > .seconds(2))
    }

    /// The clock of a test may stand still, and a machine may be suspended.
    @Test func timeThatDoesNotPassGivesNothing() {
        var pace = OutputPace(now: start)
        _ = pace.read(bytes: 128 << 20, lines: 0, now: start)
        #expect(pace.read(bytes: 32 << 20, lines: 0, now: start - .seconds(9)) == .seconds(1))
    }
}
