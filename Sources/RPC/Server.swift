package import Logging
package import NIOCore
internal import NIOPosix
internal import NIOSSL
internal import Synchronization

/// A gRPC server: listens, and serves its methods on every connection.
package final class Server: Sendable {
    private let configuration: ServerConfiguration
    private let router: Router
    private let logger: Logger
    private let group: MultiThreadedEventLoopGroup
    private let executors: [ObjectIdentifier: LoopExecutor]
    private let connections: ConnectionRegistry
    private let listeners = Mutex<[any Channel]>([])
    private let isShutDown = Mutex(false)

    /// How long a handler may take to notice that it was cancelled, before the server stops without it.
    private static let cancelledHandlerTime = Duration.seconds(5)

    /// - Precondition: no two methods have the same path.
    package init(configuration: ServerConfiguration, methods: [Method], logger: Logger) {
        self.configuration = configuration
        self.router = Router(methods)
        self.logger = logger
        group = MultiThreadedEventLoopGroup(numberOfThreads: max(1, configuration.eventLoopThreads))
        executors = Dictionary(
            uniqueKeysWithValues: group.makeIterator().map {
                (ObjectIdentifier($0), LoopExecutor(eventLoop: $0))
            })
        connections = ConnectionRegistry(connectionsMax: max(1, configuration.connectionsMax))
    }

    /// The addresses bound, in the configuration's order, with real ports. Empty before `start`.
    package var addresses: [SocketAddress] {
        listeners.withLock { $0.compactMap(\.localAddress) }
    }

    /// The port of the first address.
    package var port: Int? { addresses.first?.port }

    /// Binds every address and begins to accept.
    ///
    /// - Throws: what the system or the TLS library reports when an address cannot be bound or a file is wrong;
    ///   nothing is left bound then.
    package func start() async throws {
        let tls = try await makeTLS()
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1_024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { [connections] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptLimit(connections: connections))
                }
            }
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.writeBufferWaterMark, value: .init(low: 64 * 1024, high: 256 * 1024))
            .childChannelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture {
                    try self.add(channel, tls: tls)
                }
            }
        do {
            for address in configuration.addresses {
                let channel = try await bootstrap.bind(host: address.host, port: address.port).get()
                listeners.withLock { $0.append(channel) }
            }
        } catch {
            await closeListeners()
            throw error
        }
    }

    private func add(_ channel: any Channel, tls: NIOSSLContext?) throws {
        guard let executor = executors[ObjectIdentifier(channel.eventLoop)] else {
            preconditionFailure("every channel is on a loop of this server's group")
        }
        let id = connections.nextID()
        let connection = ServerConnection(
            configuration: configuration, router: router, executor: executor, logger: logger,
            whenDone: { [connections] in connections.remove(id) })
        if let tls {
            try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls))
        }
        connections.add(id, NIOLoopBound(connection, eventLoop: channel.eventLoop))
        try channel.pipeline.syncOperations.addHandler(connection)
    }

    private func makeTLS() async throws -> NIOSSLContext? {
        guard let tls = configuration.tls else { return nil }
        // Reading files blocks: not on the pool that runs tasks.
        return try await NIOThreadPool.singleton.runIfActive {
            let chain = try NIOSSLCertificate.fromPEMFile(tls.certificateChainPath).map {
                NIOSSLCertificateSource.certificate($0)
            }
            let key = try NIOSSLPrivateKey(file: tls.privateKeyPath, format: .pem)
            var settings = TLSConfiguration.makeServerConfiguration(
                certificateChain: chain, privateKey: .privateKey(key))
            settings.minimumTLSVersion = .tlsv12
            settings.applicationProtocols = ["h2"]
            if let path = tls.clientCAPath {
                settings.trustRoots = .file(path)
                settings.certificateVerification = .noHostnameVerification
            }
            return try NIOSSLContext(configuration: settings)
        }
    }

    /// Accepts no more, asks every client to open no more streams, and waits until the running calls are done or
    /// `grace` has passed; those left are answered UNAVAILABLE and cancelled, and their handlers have five seconds
    /// to return. A second call returns at once.
    package func shutdown(grace: Duration) async {
        let isFirst = isShutDown.withLock { isShutDown in
            defer { isShutDown = true }
            return !isShutDown
        }
        guard isFirst else { return }
        await closeListeners()
        connections.forEach { $0.beginShutdown() }
        let abort = group.next().scheduleTask(in: grace.timeAmount) { [connections] in
            connections.forEach { $0.abort() }
        }
        let giveUp = group.next().scheduleTask(in: (grace + Self.cancelledHandlerTime).timeAmount) {
            [connections] in
            connections.stopWaiting()
        }
        let isEmpty = await connections.waitUntilEmpty()
        abort.cancel()
        giveUp.cancel()
        guard isEmpty else {
            // The loops go on, for there are tasks that will want to run on them.
            return logger.warning("handlers ignore their cancellation")
        }
        do {
            try await group.shutdownGracefully()
        } catch {
            logger.error("event loops did not stop", metadata: ["error": "\(error)"])
        }
    }

    private func closeListeners() async {
        let channels = listeners.withLock { listeners in
            defer { listeners = [] }
            return listeners
        }
        for channel in channels {
            // Fails only when it is closed already.
            try? await channel.close().get()
        }
    }
}

/// The open connections: counts them for the limit, and finds them for the shutdown.
final class ConnectionRegistry: Sendable {
    private struct State {
        var open: [UInt64: NIOLoopBound<ServerConnection>] = [:]
        var lastID: UInt64 = 0
        var isShutDown = false
        /// Called once there is room for one more, or none is left.
        var roomWaiters: [@Sendable () -> Void] = []
        /// True: none is left. False: no longer waited for.
        var emptyWaiter: CheckedContinuation<Bool, Never>?
    }

    private let connectionsMax: Int
    private let state = Mutex(State())

    init(connectionsMax: Int) {
        self.connectionsMax = connectionsMax
    }

    func nextID() -> UInt64 {
        state.withLock { state in
            state.lastID += 1
            return state.lastID
        }
    }

    func add(_ id: UInt64, _ connection: NIOLoopBound<ServerConnection>) {
        let isShutDown = state.withLock { state in
            state.open[id] = connection
            return state.isShutDown
        }
        if isShutDown { connection.value.beginShutdown() }
    }

    func remove(_ id: UInt64) {
        let (room, empty) = state.withLock { state in
            state.open[id] = nil
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
            return Array(state.open.values)
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

/// Stops accepting while there are as many connections as are allowed. Those that wait are the kernel's.
private final class AcceptLimit: ChannelDuplexHandler {
    typealias InboundIn = any Channel
    typealias OutboundIn = any Channel

    private let connections: ConnectionRegistry

    init(connections: ConnectionRegistry) {
        self.connections = connections
    }

    func read(context: ChannelHandlerContext) {
        let channel = context.channel
        let hasRoom = connections.hasRoom {
            channel.eventLoop.execute { channel.read() }
        }
        if hasRoom { context.read() }
    }
}
