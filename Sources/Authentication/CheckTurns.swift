internal import NIOCore

/// Which check is done next. The sources take turns, and the checks of one are done in the order of their arrival: a source
/// with many delays one of another source by no more than one check each round. Pure: it is told what happens.
struct CheckTurns<Check> {
    /// The places of all checks, those that wait and those that are under way.
    private var places: SourcePlaces
    private let runningMax: Int
    private var running = 0
    /// exact: the server's own text for an address.
    private var waiting: [String: CircularBuffer<Check>] = [:]
    /// The sources with checks that wait: the next one first.
    private var turns = CircularBuffer<String>()

    /// - Parameter runningMax: checks that are under way at once.
    init(countMax: Int, runningMax: Int) {
        places = SourcePlaces(countMax: countMax)
        self.runningMax = runningMax
    }

    /// False: there is no place for it.
    mutating func add(_ check: Check, of source: String) -> Bool {
        guard places.take(for: source) else { return false }
        if waiting[source] == nil { turns.append(source) }
        waiting[source, default: CircularBuffer()].append(check)
        return true
    }

    /// The one to begin now. It ends with `ended`.
    mutating func next() -> Check? {
        guard running < runningMax, let source = turns.popFirst(), let check = waiting[source]?.popFirst()
        else { return nil }
        if waiting[source]?.isEmpty == true { waiting[source] = nil } else { turns.append(source) }
        running += 1
        return check
    }

    mutating func ended(_ source: String) {
        running -= 1
        places.giveBack(source)
    }
}
