package import JobModel
package import Support

/// The page of a list that a caller wants, as it was written.
package struct PageRequest: Sendable {
    /// 0: `JobLimits.pageSizeDefault`. More than the largest page of the list are cut to that.
    package var size: Int
    /// From the page before, which was for the same list and the same caller. Empty: the first page.
    package var token: ExactText

    package init(size: Int = 0, token: ExactText = "") {
        self.size = size
        self.token = token
    }

    /// The number of items that the page may have.
    func size(max: Int) -> Int {
        size == 0 ? JobLimits.pageSizeDefault : min(size, max)
    }
}

extension FieldCheck {
    mutating func page(_ page: PageRequest) {
        require(page.size >= 0, "page_size", .outOfRange, "is negative")
    }
}

/// A page of a list.
package struct ListPage<Item: Sendable>: Sendable {
    package private(set) var items: [Item]
    /// The token of the next page; empty: this is the last one.
    package private(set) var nextToken = ""
    private let positions: [Int64]
    private let token: @Sendable (Int64) throws(ServiceError) -> String

    /// - Parameter token: the token of the page behind a position.
    package init(
        _ page: StorePage<Item>, token: @escaping @Sendable (Int64) throws(ServiceError) -> String
    ) throws(ServiceError) {
        items = page.items
        positions = page.positions
        self.token = token
        if let next = page.next { nextToken = try token(next) }
    }

    /// Leaves all but the first `count` items, at least one, to the next page.
    package mutating func shorten(to count: Int) throws(ServiceError) {
        let count = max(1, count)
        guard count < items.count else { return }
        items.removeSubrange(count...)
        nextToken = try token(positions[count - 1])
    }
}

extension PageTokens {
    /// Reads a page and makes the token of the next one.
    ///
    /// - Parameter read: reads the page behind a position; nil: the first page.
    func page<Item>(
        _ page: PageRequest, of list: PagedList, for caller: Caller,
        _ read: (Int64?) async throws(ServiceError) -> StorePage<Item>
    ) async throws(ServiceError) -> ListPage<Item> {
        let position = try decode(page.token, of: list, for: caller, now: .now)
        return try ListPage(try await read(position)) { position throws(ServiceError) in
            try encode(position, of: list, for: caller, now: .now)
        }
    }
}
