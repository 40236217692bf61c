/// Decides which connections are accepted, which are closed to make room for them, and which calls without credentials may
/// stay open. It is pure: events come in, decisions go out.
///
/// A connection is unadmitted until a call on it is admitted by its caller's credentials or, where the server requires
/// none, until its first call. Half of all connections may be unadmitted, and half of those of one source. When that limit
/// is reached, an idle unadmitted connection (`IdleConnections`) is closed for a new one, so that clients without
/// credentials cannot keep others out.
struct ConnectionLimiter<Source: Hashable> {
    struct Limits: Equatable {
        /// Connections that are about to be closed do not count (`closingMax`).
        let connections: Int
        let connectionsPerSource: Int
        /// Open calls without credentials, on unadmitted connections.
        let anonymousCalls: Int
        let anonymousCallsPerSource: Int
        let anonymousCallsPerConnection: Int

        /// Unadmitted connections that stay open only because of calls whose credentials are being checked.
        let waiting: Int
        let waitingPerSource: Int

        var unadmitted: Int { Self.half(connections) }
        var unadmittedPerSource: Int { Self.half(connectionsPerSource) }

        /// A connection with an anonymous call is not closed for others, nor is one that waits. Both together are fewer than
        /// the unadmitted connections (n / 2 + (n - 1) / 2 = n - 1), so there is always one that can be closed.
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
        /// The new connection is accepted, and these are to be closed for it.
        case accepted(evicting: [UInt64])
        /// The limit of its source is reached, and none of its connections can be closed.
        case refused
    }

    private struct Connection {
        let source: Source?
        var isAdmitted = false
        var isClosing = false
        var anonymousCalls: UInt16 = 0
        /// Calls whose credentials are being checked.
        var pendingCalls: UInt16 = 0
        /// The connection stays open because of these calls (`Limits.waiting`).
        var isWaiting = false

        var isIdle: Bool { !isAdmitted && !isClosing && anonymousCalls == 0 && !isWaiting }
    }

    /// Connections that are not about to be closed, of all sources or one, and the calls of all connections.
    private struct Counts {
        var open = 0
        var unadmitted = 0
        var anonymousCalls = 0
        var waiting = 0

        var isEmpty: Bool { open == 0 && anonymousCalls == 0 }
    }

    /// The number of connections that may be closing at once. Until they are closed they use memory and a file descriptor.
    static var closingMax: Int { 64 }

    let limits: Limits
    private var connections: [UInt64: Connection] = [:]
    private var all = Counts()
    /// Connections of unknown source count as one source.
    private var bySource: [Source?: Counts] = [:]
    /// Unadmitted connections without a call that keeps them open.
    private var idle = IdleConnections<Source>()
    private var closing = 0

    init(_ limits: Limits) {
        self.limits = limits
    }

    var isEmpty: Bool { connections.isEmpty }

    /// Whether there would be room for one more connection if all idle ones were closed.
    var hasRoom: Bool {
        closing < Self.closingMax && surplus(all, limits.connections, limits.unadmitted) <= idle.count
    }

    /// The number of unadmitted connections that have to be closed for a new one. There may be too many already, because a
    /// connection that was idle may have a call since.
    private func surplus(_ counts: Counts, _ connections: Int, _ unadmitted: Int) -> Int {
        max(0, counts.open + 1 - connections, counts.unadmitted + 1 - unadmitted)
    }

    /// A connection was accepted by the system. `hasRoom` is to be checked before that; it is not checked here.
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
        return .accepted(evicting: victims)
    }

    /// A call was admitted by its caller's credentials.
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

    /// Calls without credentials were accepted, and `open` of them are still open.
    ///
    /// - Returns: how many of them may stay. The others are to be ended. Each that stays is to end with
    ///   `anonymousCallEnded`.
    mutating func anonymousCallsOpened(_ id: UInt64, open: Int) -> Int {
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

    /// The check of a call's credentials has begun or ended.
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

    /// Stores a changed connection: decides whether its calls keep it open, and if not, puts it at the end of the idle ones.
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
