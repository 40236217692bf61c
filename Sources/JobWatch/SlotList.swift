/// Objects in a list in which each keeps its slot. An object takes 8 bytes, and is added and removed without a search.
struct SlotList<Element: AnyObject & Sendable>: Sendable {
    private var slots: [Element?] = []
    private var free: [Int32] = []

    /// Adds the object that `make` returns for its slot.
    mutating func add(_ make: (Int32) -> Element) -> Element {
        let slot = free.popLast() ?? Int32(slots.count)
        let element = make(slot)
        if slot == slots.count { slots.append(element) } else { slots[Int(slot)] = element }
        return element
    }

    mutating func remove(_ slot: Int32) {
        guard slots[Int(slot)] != nil else { return }
        slots[Int(slot)] = nil
        free.append(slot)
        if free.count == slots.count { self = SlotList() }
    }

    var elements: [Element] { slots.compactMap { $0 } }
}
