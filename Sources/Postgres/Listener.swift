import CPQ
import Support
import Synchronization

/// A connection on a thread of its own that listens on channels. When it breaks, it reconnects with backoff.
///
/// NOTIFY is only a hint. What was sent while there was no connection is lost, so after `connected` the caller
/// must read the database itself.
package final class Listener: Sendable {
    package enum Event: Sendable {
        /// It listens, for the first time or again.
        case connected
        case notification(channel: String, payload: String)
        /// The connection broke, or could not be made. There is one such event per attempt.
        case disconnected(PostgresError)
    }

    private struct State {
        var isStopping = false
        var isOver = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let core: Core

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - channels: The names of the channels, at most 63 bytes each; taken literally.
    ///   - onEvent: Called on the listener's thread, one event at a time; must not block.
    package init(
        _ configuration: Connection.Configuration, channels: [String],
        onEvent: @escaping @Sendable (Event) -> Void
    ) throws(PostgresError) {
        let core = Core(configuration, channels, try Waker(), onEvent)
        self.core = core
        try startThread { core.run() }
    }

    deinit {
        core.beginStop()
    }

    /// Closes the connection and returns when the thread has ended. No event follows.
    package func stop() async {
        core.beginStop()
        await core.waitUntilOver()
    }

    /// The part that the thread holds. It does not hold the listener, so releasing the listener ends the thread.
    private final class Core: Sendable {
        /// The interval at which a silent connection is checked.
        private static let checkInterval = Duration.seconds(30)

        private let configuration: Connection.Configuration
        private let channels: [String]
        private let waker: Waker
        private let onEvent: @Sendable (Event) -> Void
        private let state = Mutex(State())

        init(
            _ configuration: Connection.Configuration, _ channels: [String], _ waker: Waker,
            _ onEvent: @escaping @Sendable (Event) -> Void
        ) {
            self.configuration = configuration
            self.channels = channels
            self.waker = waker
            self.onEvent = onEvent
        }

        private var isStopping: Bool { state.withLock { $0.isStopping } }

        func beginStop() {
            state.withLock { $0.isStopping = true }
            waker.wake()
        }

        func waitUntilOver() async {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if !state.isOver { state.waiters.append(continuation) }
                    return state.isOver
                }
                if isOver { continuation.resume() }
            }
        }

        func run() {
            var backoff = Backoff.connecting
            while !isStopping {
                do throws(PostgresError) {
                    let connection = try Connection(configuration)
                    for channel in channels {
                        try connection.executeScript("LISTEN " + connection.quotedIdentifier(channel))
                    }
                    backoff.reset()
                    onEvent(.connected)
                    try listen(on: connection)
                } catch {
                    onEvent(.disconnected(error))
                    // A wake here means that the listener is to stop.
                    _ = Poll.wait((waker.descriptor, Poll.readable), until: .now + backoff.next())
                }
            }
            let waiters = state.withLock { state in
                state.isOver = true
                defer { state.waiters = [] }
                return state.waiters
            }
            for waiter in waiters { waiter.resume() }
        }

        /// Passes on notifications. It returns when the listener is to stop, and throws when the connection
        /// breaks.
        private func listen(on connection: Connection) throws(PostgresError) {
            var nextCheck = ContinuousClock.now + Self.checkInterval
            while !isStopping {
                while let (channel, payload) = connection.nextNotification() {
                    onEvent(.notification(channel: channel, payload: payload))
                    if isStopping { return }
                }
                connection.waitForInput(orWake: waker, until: nextCheck)
                guard connection.checkAlive() else {
                    throw PostgresError(.connection, "the server closed the connection")
                }
                if nextCheck <= .now {
                    connection.deadline = .now + .seconds(5)
                    try connection.executeScript("SELECT 1")
                    nextCheck = .now + Self.checkInterval
                }
            }
        }
    }
}

extension Connection {
    /// A notification that has already been read from the socket.
    func nextNotification() -> (channel: String, payload: String)? {
        guard let handle = unsafe handle, let notify = unsafe PQnotifies(handle) else { return nil }
        defer { unsafe PQfreemem(notify) }
        return unsafe (String(cString: notify.pointee.relname), String(cString: notify.pointee.extra))
    }

    /// Quotes a name, so that it can be used in SQL.
    package func quotedIdentifier(_ name: String) throws(PostgresError) -> String {
        let handle = unsafe try openHandle()
        guard let quoted = unsafe PQescapeIdentifier(handle, name, name.utf8.count) else {
            throw PostgresError(.usage, "not a name: \(name)")
        }
        defer { unsafe PQfreemem(quoted) }
        return unsafe String(cString: quoted)
    }
}
