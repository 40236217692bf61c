/// The permits for work that any client can cause, as of a semaphore. One source, such as an address, may hold at
/// most an eighth of them.
struct SourcePermits: Sendable {
    let countMax: Int
    let countPerSourceMax: Int
    private(set) var count = 0
    /// exact: the server's own text for an address.
    private var bySource: [String: Int] = [:]

    init(countMax: Int) {
        self.countMax = countMax
        countPerSourceMax = countMax / 8
    }

    /// Acquires a permit for one unit of work. Returns false if none is left.
    mutating func acquire(for source: String) -> Bool {
        guard count < countMax, bySource[source, default: 0] < countPerSourceMax else { return false }
        count += 1
        bySource[source, default: 0] += 1
        return true
    }

    /// - Precondition: the permit was acquired for the same source.
    mutating func release(_ source: String) {
        count -= 1
        let left = bySource[source, default: 0] - 1
        bySource[source] = left > 0 ? left : nil
    }
}
