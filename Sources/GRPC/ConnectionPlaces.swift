/// Which connections have the server's places, and which calls without credentials stay open. Pure: it is told what
/// happens, and answers what to do.
///
/// A connection is unadmitted until a call on it is let in for what its caller is: by its credentials, or, where the
/// server asks for none, by anything. Unadmitted connections have half of all places, and half of those of one source.
/// When these are taken, a new connection gets the place of an idle unadmitted one (`IdleConnections`), so that whoever
/// holds places without being admitted keeps nobody out.
struct ConnectionPlaces<Source: Hashable> {
    struct Limits: Equatable {
        /// Those not included that are about to be closed (`closingMax`).
        let connections: Int
        let connectionsPerSource: Int
        /// Open calls without credentials, on unadmitted connections.
        let anonymousCalls: Int
        let anonymousCallsPerSource: Int
        let anonymousCallsPerConnection: Int

        /// Unadmitted connections that keep their place only because of calls that wait until it is known who makes them.
        let waiting: Int
        let waitingPerSource: Int

        var unadmitted: Int { Self.half(connections) }
        var unadmittedPerSource: Int { Self.half(connectionsPerSource) }

        /// A connection with an anonymous call does not give up its place, nor does one that waits. Both together are
        /// fewer than the unadmitted connections (n / 2 + (n - 1) / 2 = n - 1), so one of the others always can.
        init(
            connections: Int, connectionsPerSource: Int, anonymousCalls: Int, anonymousCallsPerSource: Int,
            anonymousCallsPerConnection: Int
        ) {
            self.connections = max(1, connections)
            self.connectionsPerSource = max(1, connectionsPerSource)
            let unadmitted = Self.half(self.connections)
            let unadmittedPerSource = Self.half(self.connectionsPerSource)
            self.anonymousCalls = min(max(0, anonymousCalls), unadmitted / 2)
            self.anonymousCallsPerSource = min(max(0, anonymousCallsPerSource), unadmittedPerSource / 2)
            self.anonymousCallsPerConnection = max(0, anonymousCallsPerConnection)
            waiting = min(self.anonymousCalls, (unadmitted - 1) / 2)
            waitingPerSource = min(self.anonymousCallsPerSource, (unadmittedPerSource - 1) / 2)
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
        /// It is one of those that keep their place because of these (`Limits.waiting`).
        var isWaiting = false

        var isIdle: Bool { !isAdmitted && !isClosing && anonymousCalls == 0 && !isWaiting }
    }

    /// Connections that are not about to be closed, of all sources or one, and calls of all of them.
    private struct Counts {
        var open = 0
        var unadmitted = 0
        var anonymousCalls = 0
        var waiting = 0

        var isEmpty: Bool { open == 0 && anonymousCalls == 0 }
    }

    /// Connections that are closed for others at once: until they are, they take a place, memory and a file.
    static var closingMax: Int { 64 }

    let limits: Limits
    private var connections: [UInt64: Connection] = [:]
    private var all = Counts()
    /// Connections whose source is not known are those of one source.
    private var bySource: [Source?: Counts] = [:]
    /// The unadmitted ones without a call that keeps them.
    private var idle = IdleConnections<Source>()
    private var closing = 0

    init(_ limits: Limits) {
        self.limits = limits
    }

    var isEmpty: Bool { connections.isEmpty }

    /// Whether one more connection may come: there would be a place for it if all that can gave up theirs.
    var hasRoom: Bool {
        closing < Self.closingMax && surplus(all, limits.connections, limits.unadmitted) <= idle.count
    }

    /// How many unadmitted connections have to go for one that comes; there may be too many already, for those without a
    /// call have one a moment later.
    private func surplus(_ counts: Counts, _ connections: Int, _ unadmitted: Int) -> Int {
        max(0, counts.open + 1 - connections, counts.unadmitted + 1 - unadmitted)
    }

    /// A connection has come. It is accepted without room, too: whoever accepts connections is to look for that first.
    mutating func add(_ id: UInt64, from source: Source?) -> Answer {
        var victims: [UInt64] = []
        let ofSource = surplus(
            bySource[source] ?? Counts(), limits.connectionsPerSource, limits.unadmittedPerSource)
        guard ofSource <= idle.count(of: source) else { return .refused }
        for _ in 0..<ofSource {
            if let victim = idle.first(of: source) { close(victim, &victims) }
        }
        for _ in 0..<surplus(all, limits.connections, limits.unadmitted) {
            if let victim = idle.first { close(victim, &victims) }
        }
        connections[id] = Connection(source: source)
        change(source) {
            $0.open += 1
            $0.unadmitted += 1
        }
        idle.append(id, of: source)
        return .accepted(inPlaceOf: victims)
    }

    /// A call was let in for what its caller is.
    mutating func admitted(_ id: UInt64) {
        guard var connection = connections[id], !connection.isAdmitted else { return }
        let calls = Int(connection.anonymousCalls)
        connection.isAdmitted = true
        connection.anonymousCalls = 0
        change(connection.source) {
            if !connection.isClosing { $0.unadmitted -= 1 }
            $0.anonymousCalls -= calls
        }
        update(id, connection)
    }

    /// Calls without credentials were let in, and so many of them are still open.
    ///
    /// - Returns: how many of them may stay. The others are to be ended; those that stay end with `anonymousCallEnded`.
    mutating func anonymousCallsCame(_ id: UInt64, open: Int) -> Int {
        guard var connection = connections[id], !connection.isAdmitted else { return open }
        let room = min(
            limits.anonymousCalls - all.anonymousCalls,
            limits.anonymousCallsPerSource - (bySource[connection.source]?.anonymousCalls ?? 0),
            limits.anonymousCallsPerConnection - Int(connection.anonymousCalls))
        let staying = max(0, min(open, room))
        connection.anonymousCalls += UInt16(staying)
        change(connection.source) { $0.anonymousCalls += staying }
        update(id, connection)
        return staying
    }

    mutating func anonymousCallEnded(_ id: UInt64) {
        guard var connection = connections[id], connection.anonymousCalls > 0 else { return }
        connection.anonymousCalls -= 1
        change(connection.source) { $0.anonymousCalls -= 1 }
        update(id, connection)
    }

    /// A call on an unadmitted connection waits until it is known who makes it, or no longer.
    mutating func pendingCallsChanged(_ id: UInt64, by change: Int) {
        guard var connection = connections[id] else { return }
        connection.pendingCalls = UInt16(clamping: Int(connection.pendingCalls) + change)
        update(id, connection)
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
        connection.isWaiting = false
        connections[id] = connection
        closing += 1
    }

    private mutating func leave(_ id: UInt64, _ connection: Connection) {
        change(connection.source) {
            $0.open -= 1
            if !connection.isAdmitted { $0.unadmitted -= 1 }
            if connection.isWaiting { $0.waiting -= 1 }
        }
        idle.remove(id, of: connection.source)
    }

    /// After a change of what it does: finds out whether its calls keep its place, and puts it behind all others that are
    /// idle if they do not.
    private mutating func update(_ id: UInt64, _ changed: Connection) {
        var connection = changed
        let waits =
            !connection.isAdmitted && !connection.isClosing && connection.anonymousCalls == 0
            && connection.pendingCalls > 0
        if waits != connection.isWaiting, !waits || mayWait(connection.source) {
            connection.isWaiting = waits
            change(connection.source) { $0.waiting += waits ? 1 : -1 }
        }
        connections[id] = connection
        idle.remove(id, of: connection.source)
        if connection.isIdle { idle.append(id, of: connection.source) }
    }

    private func mayWait(_ source: Source?) -> Bool {
        all.waiting < limits.waiting && (bySource[source]?.waiting ?? 0) < limits.waitingPerSource
    }

    private mutating func change(_ source: Source?, _ body: (inout Counts) -> Void) {
        body(&all)
        var counts = bySource[source] ?? Counts()
        body(&counts)
        bySource[source] = counts.isEmpty ? nil : counts
    }
}
