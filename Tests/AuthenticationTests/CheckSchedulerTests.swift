import Testing

@testable import Authentication

@Suite struct CheckSchedulerTests {
    /// Adds `count` checks of a source, each named by the source and its number. Returns how many were accepted.
    private func add(_ count: Int, of source: String, to scheduler: inout CheckScheduler<String>) -> Int {
        (0..<count).count { scheduler.add("\(source)\($0)", of: source) }
    }

    /// Ends the check in flight and begins the next one, until there are none. Returns the order of their starts.
    private func order(_ scheduler: inout CheckScheduler<String>) -> [String] {
        var order: [String] = []
        while let check = scheduler.next() {
            order.append(check)
            scheduler.ended(String(check.prefix(1)))
        }
        return order
    }

    @Test func sourcesAreServedRoundRobin() {
        var scheduler = CheckScheduler<String>(countMax: 80, runningMax: 1)
        #expect(add(4, of: "a", to: &scheduler) == 4)
        #expect(add(1, of: "b", to: &scheduler) == 1)
        #expect(add(2, of: "c", to: &scheduler) == 2)
        #expect(order(&scheduler) == ["a0", "b0", "c0", "a1", "c1", "a2", "a3"])
    }

    /// A check of a new source waits for at most one check of each other source, whenever it arrives.
    @Test func aNewSourceWaitsForARound() {
        var scheduler = CheckScheduler<String>(countMax: 80, runningMax: 1)
        #expect(add(10, of: "a", to: &scheduler) == 10)
        #expect(scheduler.next() == "a0")
        #expect(add(1, of: "b", to: &scheduler) == 1)
        #expect(scheduler.next() == nil)
        scheduler.ended("a")
        #expect(scheduler.next() == "a1")
        scheduler.ended("a")
        #expect(scheduler.next() == "b0")
        scheduler.ended("b")
        #expect(order(&scheduler) == (2..<10).map { "a\($0)" })
    }

    @Test func aSourceMayHaveAnEighthOfTheChecks() {
        var scheduler = CheckScheduler<String>(countMax: 80, runningMax: 2)
        #expect(add(11, of: "a", to: &scheduler) == 10)
        // Checks in flight count too.
        #expect(scheduler.next() == "a0")
        #expect(add(1, of: "a", to: &scheduler) == 0)
        #expect(add(10, of: "b", to: &scheduler) == 10)
        scheduler.ended("a")
        #expect(add(1, of: "a", to: &scheduler) == 1)
        #expect(add(1, of: "a", to: &scheduler) == 0)
    }

    @Test func theLimitOfAllSourcesHolds() {
        var scheduler = CheckScheduler<String>(countMax: 80, runningMax: 1)
        for source in "abcdefgh" { #expect(add(10, of: String(source), to: &scheduler) == 10) }
        #expect(add(1, of: "i", to: &scheduler) == 0)
        #expect(scheduler.next() == "a0")
        scheduler.ended("a")
        #expect(add(1, of: "i", to: &scheduler) == 1)
        #expect(order(&scheduler).count == 80)
        #expect(add(11, of: "a", to: &scheduler) == 10)
    }

    @Test func noMoreBeginThanMayBeInFlight() {
        var scheduler = CheckScheduler<String>(countMax: 80, runningMax: 2)
        #expect(add(4, of: "a", to: &scheduler) == 4)
        #expect(scheduler.next() == "a0" && scheduler.next() == "a1" && scheduler.next() == nil)
        scheduler.ended("a")
        #expect(scheduler.next() == "a2" && scheduler.next() == nil)
    }
}
