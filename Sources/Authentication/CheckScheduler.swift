internal import NIOCore

/// The order in which tokens are checked. The sources are served round robin, and the checks of one source in
/// the order of their arrival, so a source with many checks delays a check of another source by at most one
/// check per round. It is pure: the caller reports what happens.
struct CheckScheduler<Check> {
    /// The capacity for checks, both those that wait and those that are in flight.
    private var permits: SourcePermits
    private let runningMax: Int
    private var running = 0
    /// exact: the server's own text for an address.
    private var waiting: [String: CircularBuffer<Check>] = [:]
    /// The sources with waiting checks, in the order in which they are served.
    private var roundRobin = CircularBuffer<String>()

    /// - Parameter runningMax: the most checks in flight at once.
    init(countMax: Int, runningMax: Int) {
        permits = SourcePermits(countMax: countMax)
        self.runningMax = runningMax
    }

    /// Adds a check. Returns false if there is no capacity for it.
    mutating func add(_ check: Check, of source: String) -> Bool {
        guard permits.acquire(for: source) else { return false }
        if waiting[source] == nil { roundRobin.append(source) }
        waiting[source, default: CircularBuffer()].append(check)
        return true
    }

    /// The next check to begin. The caller ends it with `ended`.
    mutating func next() -> Check? {
        guard running < runningMax, let source = roundRobin.popFirst(),
            let check = waiting[source]?.popFirst()
        else { return nil }
        if waiting[source]?.isEmpty == true { waiting[source] = nil } else { roundRobin.append(source) }
        running += 1
        return check
    }

    mutating func ended(_ source: String) {
        running -= 1
        permits.release(source)
    }
}
