internal import Glibc
internal import NIOCore
internal import Synchronization

/// The open connections: counts them for the limits, and finds them for the shutdown.
final class ConnectionRegistry: Sendable {
    private struct State {
        var open: [UInt64: (connection: NIOLoopBound<ServerConnection>, source: Source?)] = [:]
        var countBySource: [Source: Int] = [:]
        var lastID: UInt64 = 0
        var isShutDown = false
        /// Called once there is room for one more, or none is left.
        var roomWaiters: [@Sendable () -> Void] = []
        /// True: none is left. False: no longer waited for.
        var emptyWaiter: CheckedContinuation<Bool, Never>?
    }

    /// Where connections come from, as far as one client could choose it: an address, or a network of IPv6 that is given
    /// to one customer (64 bits).
    struct Source: Hashable {
        private let network: String

        /// Nil for what has no address of IP.
        init?(_ address: SocketAddress?) {
            guard let address, let text = address.ipAddress else { return nil }
            guard address.protocol == .inet6 else {
                network = text
                return
            }
            var bytes = [UInt8](repeating: 0, count: 16)
            guard inet_pton(AF_INET6, text, &bytes) == 1 else { return nil }
            // An address of IPv4, as a socket for both has it (RFC 4291 section 2.5.5.2).
            let isIPv4 = bytes.prefix(10).allSatisfy { $0 == 0 } && bytes[10] == 0xff && bytes[11] == 0xff
            network = isIPv4 ? bytes.suffix(4).map(String.init).joined(separator: ".") : "\(bytes.prefix(8))"
        }
    }

    private let connectionsMax: Int
    private let connectionsPerSourceMax: Int
    private let state = Mutex(State())

    init(connectionsMax: Int, connectionsPerSourceMax: Int) {
        self.connectionsMax = connectionsMax
        self.connectionsPerSourceMax = connectionsPerSourceMax
    }

    func nextID() -> UInt64 {
        state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
    }

    /// False: there are as many from this source as are allowed.
    func add(_ id: UInt64, _ connection: NIOLoopBound<ServerConnection>, from source: Source?) -> Bool {
        let (hasRoom, isShutDown) = state.withLock { state in
            if let source {
                let count = state.countBySource[source, default: 0]
                guard count < connectionsPerSourceMax else { return (false, false) }
                state.countBySource[source] = count + 1
            }
            state.open[id] = (connection, source)
            return (true, state.isShutDown)
        }
        if isShutDown { connection.value.beginShutdown() }
        return hasRoom
    }

    func remove(_ id: UInt64) {
        let (room, empty) = state.withLock { state in
            if let source = state.open.removeValue(forKey: id)?.source {
                let count = state.countBySource[source, default: 1] - 1
                state.countBySource[source] = count > 0 ? count : nil
            }
            defer { state.roomWaiters = [] }
            guard state.open.isEmpty else {
                return (state.roomWaiters, CheckedContinuation<Bool, Never>?.none)
            }
            defer { state.emptyWaiter = nil }
            return (state.roomWaiters, state.emptyWaiter)
        }
        for notify in room { notify() }
        empty?.resume(returning: true)
    }

    /// True when one more connection may be accepted; else `notify` is called when it is worth asking again.
    func hasRoom(orNotify notify: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            if state.open.count < connectionsMax { return true }
            state.roomWaiters.append(notify)
            return false
        }
    }

    /// Calls `body` for each connection on its own loop.
    func forEach(_ body: @escaping @Sendable (ServerConnection) -> Void) {
        let open = state.withLock { state in
            state.isShutDown = true
            return state.open.values.map(\.connection)
        }
        for connection in open {
            connection.eventLoop.execute { body(connection.value) }
        }
    }

    /// False when `stopWaiting` came first.
    func waitUntilEmpty() async -> Bool {
        await withCheckedContinuation { continuation in
            let isEmpty = state.withLock { state in
                if state.open.isEmpty { return true }
                state.emptyWaiter = continuation
                return false
            }
            if isEmpty { continuation.resume(returning: true) }
        }
    }

    func stopWaiting() {
        let waiter = state.withLock { state in
            defer { state.emptyWaiter = nil }
            return state.emptyWaiter
        }
        waiter?.resume(returning: false)
    }
}
