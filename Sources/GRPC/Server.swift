package import Logging
package import NIOCore
internal import NIOPosix
internal import NIOSSL
internal import Synchronization

/// A gRPC server: listens, and serves its methods on every connection.
///
/// It does not watch the files of its certificate by itself. The owner calls `reloadFiles` about twice a second.
package final class Server: Sendable {
    private let configuration: ServerConfiguration
    private let router: Router
    private let logger: Logger
    private let group: MultiThreadedEventLoopGroup
    private let executors: [ObjectIdentifier: LoopExecutor]
    private let connections: ConnectionRegistry
    private let budgets: MemoryBudgets
    private let listeners = Mutex<[any Channel]>([])
    private let isShutDown = Mutex(false)
    /// Nil before `start`, and without TLS.
    private let tls = Mutex<TLSContext?>(nil)

    /// The time that handlers have to return after they were cancelled, before the server stops without them.
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
        budgets = MemoryBudgets(configuration)
        connections = ConnectionRegistry(
            .init(
                connections: configuration.connectionsMax,
                connectionsPerSource: configuration.connectionsPerAddressMax,
                anonymousCalls: configuration.anonymousCallsMax,
                anonymousCallsPerSource: configuration.anonymousCallsPerAddressMax,
                anonymousCallsPerConnection: configuration.anonymousCallsPerConnectionMax))
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
        let tls = try await startTLS()
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1_024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { [connections] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptLimit(connections: connections))
                }
            }
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            // Fairness: a client that sends much is read no more often than the others.
            .childChannelOption(.maxMessagesPerRead, value: 1)
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

    private func add(_ channel: any Channel, tls: TLSContext?) throws {
        guard let executor = executors[ObjectIdentifier(channel.eventLoop)] else {
            preconditionFailure("every channel is on a loop of this server's group")
        }
        let registration = connections.register(from: ConnectionRegistry.Source(channel.remoteAddress))
        let beginning = tls?.current
        let connection = ServerConnection(
            configuration: configuration, router: router, executor: executor,
            budgets: budgets, registration: registration,
            isTrusted: {
                guard let tls, let beginning else { return true }
                return tls.isTrusted(beginning)
            }, logger: logger, whenDone: registration.remove)
        guard connections.add(NIOLoopBound(connection, eventLoop: channel.eventLoop), as: registration) else {
            connection.reportRefusal(of: .tooManyOfAddress)
            // An error here closes the channel.
            throw TooManyConnections()
        }
        if let beginning {
            try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: beginning.context))
        }
        try channel.pipeline.syncOperations.addHandler(connection)
    }

    private struct TooManyConnections: Error {}

    private func startTLS() async throws -> TLSContext? {
        guard let files = configuration.tls else { return nil }
        // Reading files blocks, so it is not done on the cooperative pool, nor on an event loop.
        let context = try await NIOThreadPool.singleton.runIfActive { [logger] in
            try TLSContext(files, logger: logger)
        }
        tls.withLock { $0 = context }
        return context
    }

    /// Reads the certificate's files again that have changed. New contents are accepted when the next call finds the same.
    /// It blocks while it reads, so it must not be called on event loops or in tasks.
    package func reloadFiles() {
        tls.withLock(\.self)?.reload()
    }

    /// Accepts no more connections, drains those that are open, and waits until the running calls are done or `grace` has
    /// passed. Calls that remain are answered UNAVAILABLE and cancelled, and their handlers have five seconds to return. A
    /// second call returns at once.
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
            // The event loops stay, because the tasks of these handlers still need them.
            return logger.warning(
                "some handlers did not end after their cancellation: the server stops without waiting for them"
            )
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
            // This fails only when the listener is closed already.
            try? await channel.close().get()
        }
    }
}
