import Testing

@testable import Authentication

@Suite struct CheckTurnsTests {
    /// So many checks of a source, each named by it and its number.
    private func add(_ count: Int, of source: String, to turns: inout CheckTurns<String>) -> Int {
        (0..<count).count { turns.add("\(source)\($0)", of: source) }
    }

    /// Ends the one that is under way, and begins the next one, until there is none.
    private func order(_ turns: inout CheckTurns<String>) -> [String] {
        var order: [String] = []
        while let check = turns.next() {
            order.append(check)
            turns.ended(String(check.prefix(1)))
        }
        return order
    }

    @Test func sourcesTakeTurns() {
        var turns = CheckTurns<String>(countMax: 80, runningMax: 1)
        #expect(add(4, of: "a", to: &turns) == 4)
        #expect(add(1, of: "b", to: &turns) == 1)
        #expect(add(2, of: "c", to: &turns) == 2)
        #expect(order(&turns) == ["a0", "b0", "c0", "a1", "c1", "a2", "a3"])
    }

    /// One that comes to a source with many waits for one check of each other source, whenever it comes.
    @Test func aNewSourceWaitsForARound() {
        var turns = CheckTurns<String>(countMax: 80, runningMax: 1)
        #expect(add(10, of: "a", to: &turns) == 10)
        #expect(turns.next() == "a0")
        #expect(add(1, of: "b", to: &turns) == 1)
        #expect(turns.next() == nil)
        turns.ended("a")
        #expect(turns.next() == "a1")
        turns.ended("a")
        #expect(turns.next() == "b0")
        turns.ended("b")
        #expect(order(&turns) == (2..<10).map { "a\($0)" })
    }

    @Test func aSourceHasAnEighthOfThePlaces() {
        var turns = CheckTurns<String>(countMax: 80, runningMax: 2)
        #expect(add(11, of: "a", to: &turns) == 10)
        // Those that are under way have a place, too.
        #expect(turns.next() == "a0")
        #expect(add(1, of: "a", to: &turns) == 0)
        #expect(add(10, of: "b", to: &turns) == 10)
        turns.ended("a")
        #expect(add(1, of: "a", to: &turns) == 1)
        #expect(add(1, of: "a", to: &turns) == 0)
    }

    @Test func allSourcesHaveNoMoreThanThereAre() {
        var turns = CheckTurns<String>(countMax: 80, runningMax: 1)
        for source in "abcdefgh" { #expect(add(10, of: String(source), to: &turns) == 10) }
        #expect(add(1, of: "i", to: &turns) == 0)
        #expect(turns.next() == "a0")
        turns.ended("a")
        #expect(add(1, of: "i", to: &turns) == 1)
        #expect(order(&turns).count == 80)
        #expect(add(11, of: "a", to: &turns) == 10)
    }

    @Test func noMoreBeginThanMayBeUnderWay() {
        var turns = CheckTurns<String>(countMax: 80, runningMax: 2)
        #expect(add(4, of: "a", to: &turns) == 4)
        #expect(turns.next() == "a0" && turns.next() == "a1" && turns.next() == nil)
        turns.ended("a")
        #expect(turns.next() == "a2" && turns.next() == nil)
    }
}
