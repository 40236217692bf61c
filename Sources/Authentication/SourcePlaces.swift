/// Limits work that any client can cause. One source, such as an address, may have at most an eighth of it.
struct SourcePlaces: Sendable {
    let countMax: Int
    let countPerSourceMax: Int
    private(set) var count = 0
    /// exact: the server's own text for an address.
    private var bySource: [String: Int] = [:]

    init(countMax: Int) {
        self.countMax = countMax
        countPerSourceMax = countMax / 8
    }

    /// Takes capacity for one unit of work. Returns false if none is left.
    mutating func take(for source: String) -> Bool {
        guard count < countMax, bySource[source, default: 0] < countPerSourceMax else { return false }
        count += 1
        bySource[source, default: 0] += 1
        return true
    }

    /// - Precondition: the capacity was taken for the same source.
    mutating func giveBack(_ source: String) {
        count -= 1
        let left = bySource[source, default: 0] - 1
        bySource[source] = left > 0 ? left : nil
    }
}
