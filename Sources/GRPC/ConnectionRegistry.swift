internal import Glibc
internal import NIOCore
internal import Synchronization

/// The open connections of a server. It admits new ones by `ConnectionLimiter`, closes idle ones for them, and ends all of
/// them at shutdown.
final class ConnectionRegistry: Sendable {
    private struct State {
        var open: [UInt64: NIOLoopBound<ServerConnection>] = [:]
        var limiter: ConnectionLimiter<Source>
        var lastID: UInt64 = 0
        var isShutDown = false
        /// Called once when there may be room for one more connection, or none is open.
        var roomWaiters: [@Sendable () -> Void] = []
        /// Resumed with true when no connection is open, with false when `stopWaiting` was called.
        var emptyWaiter: CheckedContinuation<Bool, Never>?

        mutating func takeRoomWaiters() -> [@Sendable () -> Void] {
            guard !roomWaiters.isEmpty, limiter.hasRoom else { return [] }
            defer { roomWaiters = [] }
            return roomWaiters
        }
    }

    /// Where a connection comes from: an IPv4 address, or an IPv6 network of 64 bits, which one customer has for itself.
    struct Source: Hashable, CustomStringConvertible {
        let description: String

        /// Fails for an address that is not of IP.
        init?(_ address: SocketAddress?) {
            guard let address, let text = address.ipAddress else { return nil }
            guard address.protocol == .inet6 else {
                description = text
                return
            }
            var bytes = [UInt8](repeating: 0, count: 16)
            guard inet_pton(AF_INET6, text, &bytes) == 1 else { return nil }
            // An IPv4 address as a dual-stack socket has it (RFC 4291 section 2.5.5.2).
            if bytes.prefix(10).allSatisfy({ $0 == 0 }), bytes[10] == 0xff, bytes[11] == 0xff {
                description = bytes.suffix(4).map(String.init).joined(separator: ".")
            } else {
                let words = stride(from: 0, to: 8, by: 2).map { Int(bytes[$0]) << 8 | Int(bytes[$0 + 1]) }
                description = words.map { String($0, radix: 16) }.joined(separator: ":") + "::/64"
            }
        }
    }

    /// The registration of a connection, by which it reports its changes.
    struct Registration {
        fileprivate let registry: ConnectionRegistry
        let id: UInt64
        let source: Source?

        /// A call was admitted by its caller's credentials.
        func admitted() {
            registry.update { $0.admitted(id) }
        }

        /// See `ConnectionLimiter.anonymousCallsOpened`.
        func anonymousCallsOpened(open: Int) -> Int {
            registry.update { $0.anonymousCallsOpened(id, open: open) }
        }

        func anonymousCallEnded() {
            registry.update { $0.anonymousCallEnded(id) }
        }

        func pendingCallsChanged(by change: Int) {
            registry.update { $0.pendingCallsChanged(id, by: change) }
        }

        /// The connection is closed, and none of its handlers is running.
        func remove() {
            registry.remove(id)
        }
    }

    private let state: Mutex<State>

    init(_ limits: ConnectionLimiter<Source>.Limits) {
        state = Mutex(State(limiter: ConnectionLimiter(limits)))
    }

    /// Registers a connection that was accepted by the system; `add` follows.
    func register(from source: Source?) -> Registration {
        let id = state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
        return Registration(registry: self, id: id, source: source)
    }

    /// - Returns: false if the limit of its source is reached and none of its connections can be closed.
    func add(_ connection: NIOLoopBound<ServerConnection>, as registration: Registration) -> Bool {
        let (victims, isShutDown) = state.withLock { state -> ([NIOLoopBound<ServerConnection>]?, Bool) in
            switch state.limiter.add(registration.id, from: registration.source) {
            case .refused: return (nil, false)
            case .accepted(let victims):
                state.open[registration.id] = connection
                return (victims.compactMap { state.open[$0] }, state.isShutDown)
            }
        }
        guard let victims else { return false }
        for victim in victims { victim.eventLoop.execute { victim.value.evict() } }
        if isShutDown { connection.value.beginShutdown() }
        return true
    }

    private func remove(_ id: UInt64) {
        let (room, empty) = state.withLock { state in
            state.open[id] = nil
            state.limiter.remove(id)
            guard state.open.isEmpty else {
                return (state.takeRoomWaiters(), CheckedContinuation<Bool, Never>?.none)
            }
            defer { state.emptyWaiter = nil }
            return (state.takeRoomWaiters(), state.emptyWaiter)
        }
        for notify in room { notify() }
        empty?.resume(returning: true)
    }

    private func update<R: Sendable>(_ body: (inout ConnectionLimiter<Source>) -> R) -> R {
        let (result, room) = state.withLock { state in
            (body(&state.limiter), state.takeRoomWaiters())
        }
        for notify in room { notify() }
        return result
    }

    /// - Returns: whether one more connection may be accepted. If not, `notify` is called once when that may have changed.
    func hasRoom(orNotify notify: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            if state.limiter.hasRoom { return true }
            state.roomWaiters.append(notify)
            return false
        }
    }

    /// Calls `body` for each connection on its event loop, and from now on drains each new connection.
    func forEach(_ body: @escaping @Sendable (ServerConnection) -> Void) {
        let open = state.withLock { state in
            state.isShutDown = true
            return Array(state.open.values)
        }
        for connection in open {
            connection.eventLoop.execute { body(connection.value) }
        }
    }

    /// - Returns: false when `stopWaiting` was called first.
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
