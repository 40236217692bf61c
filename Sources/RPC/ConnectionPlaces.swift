/// Which connections have the server's places, and which calls without credentials stay open. Pure: it is told what
/// happens, and answers what to do.
///
/// A connection is unadmitted until a call on it is let in for what its caller is: by its credentials, or, where the
/// server asks for none, by anything. Unadmitted connections have half of all places, and half of those of one source.
/// When these are taken, a new connection gets the place of the unadmitted one that has been idle for longest, so that
/// whoever holds places without being admitted keeps nobody out.
struct ConnectionPlaces<Source: Hashable> {
    struct Limits: Equatable {
        /// Those not included that are about to be closed (`closingMax`).
        let connections: Int
        let connectionsPerSource: Int
        /// Open calls without credentials, on unadmitted connections.
        let anonymousCalls: Int
        let anonymousCallsPerSource: Int
        let anonymousCallsPerConnection: Int

        var unadmitted: Int { Self.half(connections) }
        var unadmittedPerSource: Int { Self.half(connectionsPerSource) }

        /// A connection with such a call does not give up its place. There are never more calls than half of the
        /// unadmitted connections, so one of the others always can.
        init(
            connections: Int, connectionsPerSource: Int, anonymousCalls: Int, anonymousCallsPerSource: Int,
            anonymousCallsPerConnection: Int
        ) {
            self.connections = max(1, connections)
            self.connectionsPerSource = max(1, connectionsPerSource)
            self.anonymousCalls = min(max(1, anonymousCalls), Self.half(Self.half(self.connections)))
            self.anonymousCallsPerSource = min(
                max(1, anonymousCallsPerSource), Self.half(Self.half(self.connectionsPerSource)))
            self.anonymousCallsPerConnection = max(1, anonymousCallsPerConnection)
        }

        private static func half(_ count: Int) -> Int { (count + 1) / 2 }
    }

    enum Answer: Equatable {
        /// These are to be closed for it.
        case accepted(inPlaceOf: [UInt64])
        /// There are as many from its source as there may be, and none that could be closed for it.
        case refused
    }

    private struct Connection {
        let source: Source?
        var isAdmitted = false
        var isClosing = false
        var anonymousCalls: UInt16 = 0
        /// Calls that wait until it is known who makes them.
        var pendingCalls: UInt16 = 0

        var isIdle: Bool { !isAdmitted && !isClosing && anonymousCalls == 0 && pendingCalls == 0 }
    }

    /// Connections that are not about to be closed, of all sources or one.
    private struct Group {
        var open = 0
        var unadmitted = 0
        var anonymousCalls = 0
        /// The unadmitted ones without an open call.
        var idle = IDQueue()
    }

    /// Connections that are closed for others at once: until they are, they take a place, memory and a file.
    static var closingMax: Int { 64 }

    let limits: Limits
    private var connections: [UInt64: Connection] = [:]
    private var all = Group()
    private var bySource: [Source: Group] = [:]
    private var closing = 0

    init(_ limits: Limits) {
        self.limits = limits
    }

    var isEmpty: Bool { connections.isEmpty }

    /// Whether one more connection may come: there would be a place for it if all that can gave up theirs.
    var hasRoom: Bool {
        closing < Self.closingMax && surplus(all, limits.connections, limits.unadmitted) <= all.idle.count
    }

    /// How many unadmitted connections have to go for one that comes; there may be too many already, for those without a
    /// call have one a moment later.
    private func surplus(_ group: Group, _ connections: Int, _ unadmitted: Int) -> Int {
        max(0, group.open + 1 - connections, group.unadmitted + 1 - unadmitted)
    }

    /// A connection has come. It is accepted without room, too: whoever accepts connections is to look for that first.
    mutating func add(_ id: UInt64, from source: Source?) -> Answer {
        var victims: [UInt64] = []
        if let source, let group = bySource[source] {
            let surplus = surplus(group, limits.connectionsPerSource, limits.unadmittedPerSource)
            guard surplus <= group.idle.count else { return .refused }
            for _ in 0..<surplus {
                if let victim = bySource[source]?.idle.first { close(victim, &victims) }
            }
        }
        for _ in 0..<surplus(all, limits.connections, limits.unadmitted) {
            if let victim = all.idle.first { close(victim, &victims) }
        }
        connections[id] = Connection(source: source)
        change(source) {
            $0.open += 1
            $0.unadmitted += 1
            $0.idle.append(id)
        }
        return .accepted(inPlaceOf: victims)
    }

    /// A call was let in for what its caller is.
    mutating func admitted(_ id: UInt64) {
        guard var connection = connections[id], !connection.isAdmitted else { return }
        let calls = Int(connection.anonymousCalls)
        connection.isAdmitted = true
        connection.anonymousCalls = 0
        connections[id] = connection
        let isClosing = connection.isClosing
        change(connection.source) {
            if !isClosing { $0.unadmitted -= 1 }
            $0.anonymousCalls -= calls
            $0.idle.remove(id)
        }
    }

    /// Calls without credentials were let in, and so many of them are still open.
    ///
    /// - Returns: how many of them may stay. The others are to be ended; those that stay end with `anonymousCallEnded`.
    mutating func anonymousCallsCame(_ id: UInt64, open: Int) -> Int {
        guard var connection = connections[id], !connection.isAdmitted else { return open }
        var room = min(
            limits.anonymousCalls - all.anonymousCalls,
            limits.anonymousCallsPerConnection - Int(connection.anonymousCalls))
        if let source = connection.source {
            room = min(
                room, limits.anonymousCallsPerSource - (bySource[source]?.anonymousCalls ?? 0))
        }
        let staying = max(0, min(open, room))
        connection.anonymousCalls += UInt16(staying)
        connections[id] = connection
        change(connection.source) { $0.anonymousCalls += staying }
        queue(id, connection)
        return staying
    }

    mutating func anonymousCallEnded(_ id: UInt64) {
        guard var connection = connections[id], connection.anonymousCalls > 0 else { return }
        connection.anonymousCalls -= 1
        connections[id] = connection
        change(connection.source) { $0.anonymousCalls -= 1 }
        queue(id, connection)
    }

    /// A call on an unadmitted connection waits until it is known who makes it, or no longer.
    mutating func pendingCallsChanged(_ id: UInt64, by change: Int) {
        guard var connection = connections[id] else { return }
        connection.pendingCalls = UInt16(clamping: Int(connection.pendingCalls) + change)
        connections[id] = connection
        queue(id, connection)
    }

    mutating func remove(_ id: UInt64) {
        guard let connection = connections.removeValue(forKey: id) else { return }
        if connection.isClosing {
            closing -= 1
        } else {
            leave(id, connection)
        }
        change(connection.source) { $0.anonymousCalls -= Int(connection.anonymousCalls) }
    }

    func source(of id: UInt64) -> Source? { connections[id]?.source }

    private mutating func close(_ id: UInt64, _ victims: inout [UInt64]) {
        guard var connection = connections[id] else { return }
        victims.append(id)
        leave(id, connection)
        connection.isClosing = true
        connections[id] = connection
        closing += 1
    }

    private mutating func leave(_ id: UInt64, _ connection: Connection) {
        change(connection.source) {
            $0.open -= 1
            if !connection.isAdmitted { $0.unadmitted -= 1 }
            $0.idle.remove(id)
        }
    }

    /// Puts it behind all others that are idle, if it is.
    private mutating func queue(_ id: UInt64, _ connection: Connection) {
        change(connection.source) {
            $0.idle.remove(id)
            if connection.isIdle { $0.idle.append(id) }
        }
    }

    private mutating func change(_ source: Source?, _ body: (inout Group) -> Void) {
        body(&all)
        guard let source else { return }
        var group = bySource.removeValue(forKey: source) ?? Group()
        body(&group)
        if group.open > 0 || group.anonymousCalls > 0 { bySource[source] = group }
    }
}

/// Ids in the order in which they came; each can leave from anywhere at the same cost.
struct IDQueue {
    private struct Link {
        var previous: UInt64?
        var next: UInt64?
    }

    private var links: [UInt64: Link] = [:]
    private(set) var first: UInt64?
    private var last: UInt64?

    var count: Int { links.count }

    /// - Precondition: it is not there.
    mutating func append(_ id: UInt64) {
        links[id] = Link(previous: last)
        if let last { links[last]?.next = id } else { first = id }
        last = id
    }

    /// No effect where it is not there.
    mutating func remove(_ id: UInt64) {
        guard let link = links.removeValue(forKey: id) else { return }
        if let previous = link.previous { links[previous]?.next = link.next } else { first = link.next }
        if let next = link.next { links[next]?.previous = link.previous } else { last = link.previous }
    }
}
