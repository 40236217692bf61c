import Testing

@testable import JobWatch

@Suite struct SlotListTests {
    private final class Item: Sendable {
        let slot: Int32

        init(_ slot: Int32) {
            self.slot = slot
        }
    }

    @Test func eachKeepsItsSlot() {
        var list = SlotList<Item>()
        let items = (0..<5).map { _ in list.add { Item($0) } }
        #expect(items.map(\.slot) == [0, 1, 2, 3, 4])
        list.remove(1)
        list.remove(3)
        #expect(list.elements.map(\.slot) == [0, 2, 4])
        #expect(list.elements[2] === items[4])
        // Free slots are used again.
        let more = (0..<3).map { _ in list.add { Item($0) } }
        #expect(Set(more.map(\.slot)) == [1, 3, 5])
        #expect(list.elements.count == 6)
    }

    @Test func removedTwiceIsFreeOnce() {
        var list = SlotList<Item>()
        for _ in 0..<2 { _ = list.add { Item($0) } }
        for _ in 0..<2 { list.remove(0) }
        let more = (0..<2).map { _ in list.add { Item($0) } }
        #expect(more.map(\.slot) == [0, 2])
    }

    @Test func emptyStartsAnew() {
        var list = SlotList<Item>()
        for _ in 0..<3 { _ = list.add { Item($0) } }
        for slot: Int32 in 0..<3 { list.remove(slot) }
        #expect(list.elements.isEmpty)
        let first = list.add { Item($0) }
        #expect(first.slot == 0)
    }
}
