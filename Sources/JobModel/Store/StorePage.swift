/// A page of a list, with the start of the next page.
package struct StorePage<Item: Sendable>: Sendable {
    package var items: [Item]
    /// The position of each item in its list. A later page begins behind one of them.
    package var positions: [Int64]
    /// The position behind which the next page begins; nil if there is none.
    package var next: Int64?

    package init(items: [Item] = [], positions: [Int64] = [], next: Int64? = nil) {
        self.items = items
        self.positions = positions
        self.next = next
    }

    /// Makes a page of `size` items from rows, of which one more was read to learn whether there is a next page.
    package init(_ rows: [(item: Item, position: Int64)], size: Int) {
        let rows = rows.prefix(size + 1)
        self.init(items: rows.prefix(size).map(\.item), positions: rows.prefix(size).map(\.position))
        if rows.count > size { next = positions.last }
    }
}
