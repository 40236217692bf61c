/// The connections that may be closed for others, in the order of eviction. Each change takes constant time, however many
/// connections and sources there are, because clients decide how often there is one.
///
/// The source with the most idle connections loses one first: the one that has been idle for longest. So a source with
/// many connections cannot evict the only one of another. Connections of unknown source count as one source.
struct IdleConnections<Source: Hashable> {
    private var bySource: [Source?: LinkedQueue<UInt64>] = [:]
    /// For each number of idle connections the sources that have it, in the order in which they reached it.
    private var sources: [Int: LinkedQueue<Source?>] = [:]
    /// The largest key of `sources`. It changes by one at a time, as each source's number does.
    private var most = 0
    private(set) var count = 0

    /// The connection to be closed first.
    var first: UInt64? {
        guard let source = sources[most]?.first else { return nil }
        return first(of: source)
    }

    /// The connection of the source to be closed first.
    func first(of source: Source?) -> UInt64? { bySource[source]?.first }

    func count(of source: Source?) -> Int { bySource[source]?.count ?? 0 }

    /// - Precondition: it is not there.
    mutating func append(_ id: UInt64, of source: Source?) {
        bySource[source, default: LinkedQueue()].append(id)
        count += 1
        let now = count(of: source)
        move(source, from: now - 1, to: now)
        most = max(most, now)
    }

    /// No effect where it is not there.
    mutating func remove(_ id: UInt64, of source: Source?) {
        let before = count(of: source)
        bySource[source]?.remove(id)
        let now = count(of: source)
        guard now < before else { return }
        if now == 0 { bySource.removeValue(forKey: source) }
        count -= 1
        move(source, from: before, to: now)
        if most == before, sources[before] == nil { most = now }
    }

    private mutating func move(_ source: Source?, from before: Int, to now: Int) {
        sources[before]?.remove(source)
        if sources[before]?.count == 0 { sources[before] = nil }
        if now > 0 { sources[now, default: LinkedQueue()].append(source) }
    }
}

/// A queue from whose middle elements can be removed in constant time.
struct LinkedQueue<Element: Hashable> {
    private struct Link {
        var previous: Element?
        var next: Element?
    }

    private var links: [Element: Link] = [:]
    private(set) var first: Element?
    private var last: Element?

    var count: Int { links.count }

    /// - Precondition: it is not there.
    mutating func append(_ element: Element) {
        links[element] = Link(previous: last)
        if let last { links[last]?.next = element } else { first = element }
        last = element
    }

    /// No effect where it is not there.
    mutating func remove(_ element: Element) {
        guard let link = links.removeValue(forKey: element) else { return }
        if let previous = link.previous { links[previous]?.next = link.next } else { first = link.next }
        if let next = link.next { links[next]?.previous = link.previous } else { last = link.previous }
    }
}
