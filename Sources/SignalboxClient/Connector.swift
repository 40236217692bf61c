import GRPC
import Logging
import SignalboxJobs

/// A connection that is closed with its last reference.
final class Connection: Sendable {
    let client: Client

    init(_ client: Client) {
        self.client = client
    }

    deinit {
        let client = client
        Task { await client.close() }
    }
}

/// Keeps one connection for all calls, and makes a new one when it is lost.
actor Connector {
    private enum State {
        /// Exits: connecting, closed.
        case idle
        /// Exits: connected, idle when it fails, closed.
        case connecting(Task<Connection, any Error>)
        /// Exits: idle when it is given up, closed.
        case connected(Connection)
        /// No exit.
        case closed
    }

    /// The API promises that no response is larger.
    private static let messageBytesMax = 4 << 20
    static let isClosed = Status(.unavailable, "the client is closed")

    private let configuration: SignalboxClient.Configuration
    private var state = State.idle

    init(_ configuration: SignalboxClient.Configuration) {
        self.configuration = configuration
    }

    /// Callers that come while a connection is made share it. It has 10 s to be there; a caller that waits for less long
    /// gives up by itself.
    func connection() async throws -> Connection {
        switch state {
        case .closed: throw Self.isClosed
        case .connected(let connection):
            // A server that restarts, or closes idle connections, does so between two calls.
            if await connection.client.isOpen { return connection }
            giveUp(connection)
            return try await self.connection()
        case .connecting(let task): return try await task.value
        case .idle:
            let task = Task { try await self.connect() }
            state = .connecting(task)
            return try await task.value
        }
    }

    private func connect() async throws -> Connection {
        do {
            let connection = Connection(
                try await Client.connect(
                    host: configuration.host, port: configuration.port, configuration: clientConfiguration,
                    logger: configuration.logger))
            if case .closed = state { throw Self.isClosed }
            state = .connected(connection)
            return connection
        } catch {
            if case .connecting = state { state = .idle }
            throw error
        }
    }

    /// Gives up a connection that takes no new calls: after UNAVAILABLE it may be lost, or the server may only be busy.
    func giveUpIfClosed(_ connection: Connection) async {
        if await !connection.client.isOpen { giveUp(connection) }
    }

    /// No further call uses the connection. It is closed when those that do are over.
    private func giveUp(_ lost: Connection) {
        if case .connected(let connection) = state, connection === lost { state = .idle }
    }

    /// Calls that run throw `unavailable`, as later ones do.
    func close() async {
        let before = state
        state = .closed
        switch before {
        case .idle, .closed: break
        case .connected(let connection): await connection.client.close()
        case .connecting(let task): _ = await task.result
        }
    }

    /// Whether a call after this error would fail for good.
    var hasEnded: Bool {
        if case .closed = state { true } else { false }
    }

    private var clientConfiguration: ClientConfiguration {
        var result = ClientConfiguration()
        result.messageBytesMax = Self.messageBytesMax
        if let tls = configuration.tls {
            var settings = ClientConfiguration.TLS()
            settings.rootsPath = tls.authorityFile
            settings.certificateChainPath = tls.certificateFile
            settings.privateKeyPath = tls.keyFile
            settings.serverName = tls.serverName
            result.tls = settings
        }
        return result
    }
}
