import Authentication
import Foundation
import SignalboxAPI
import JobModel
import JobService
import JobWatch
import JobStore
import JobEngine
import Logging
import NIOCore
import NIOPosix
import Postgres
import EmbeddedPostgres
import GRPC
import Settings

/// A server that is put together from its parts: database, store, change feed, watches, node, API.
struct Assembly: Sendable {
    private static let connectTimeout: Duration = .seconds(30)

    let settings: ServerSettings
    let logger: Logger
    /// The operations of the service, for handlers and for the program that embeds it.
    let jobs: JobOperations
    let watches: WatchOperations
    let admin: AdminOperations
    private let embeddedPostgres: EmbeddedPostgres?
    private let database: Database
    private let leaseDatabase: Database
    private let listener: Listener
    let store: JobStore
    let changes: ChangeFeed
    let hub: WatchHub
    let node: WorkerNode
    private let health: HealthState
    private let authenticator: Authenticator?
    private let refusals: Refusals
    private let server: Server

    /// Starts all parts. If one cannot be started, it stops those that were started, and throws.
    ///
    /// - Parameter databasePassword: the password for a connection whose settings give none.
    static func start(
        _ settings: ServerSettings, databasePassword: String? = nil, runners: [any JobRunner], logger: Logger
    ) async throws -> Assembly {
        var undo: [Undo] = []
        do {
            var embeddedPostgres: EmbeddedPostgres?
            let connection: Connection.Configuration
            if let url = settings.databaseURL {
                connection = Self.connection(url, password: databasePassword, logger: logger)
            } else {
                let started = try await EmbeddedPostgres.start(
                    EmbeddedPostgres.Configuration(stateDirectory: settings.stateDirectory), logger: logger)
                undo.append { await started.stop() }
                embeddedPostgres = started
                connection = Self.connection(started.connectionString, logger: logger)
            }
            return try await Assembly(
                settings, runners: runners, logger: logger, connection: connection,
                embeddedPostgres: embeddedPostgres, undo: &undo)
        } catch {
            let steps = undo
            // The steps run in a task of their own, because a start that was cancelled must also close its
            // connections in order.
            await Task { for step in steps.reversed() { await step() } }.value
            throw error
        }
    }

    /// Stops a part that was started.
    private typealias Undo = @Sendable () async -> Void

    /// Appends to `undo` how each part is stopped. If this throws, the caller runs all of them, the last one
    /// first.
    private init(
        _ settings: ServerSettings, runners: [any JobRunner], logger: Logger,
        connection: Connection.Configuration, embeddedPostgres: EmbeddedPostgres?, undo: inout [Undo]
    ) async throws {
        self.settings = settings
        self.logger = logger
        self.embeddedPostgres = embeddedPostgres
        let database = try Database(
            Database.Configuration(
                connection: connection, connectionCount: settings.databaseConnections))
        undo.append { await database.shutdown() }
        self.database = database
        let leaseDatabase = try Database(
            Database.Configuration(connection: connection, connectionCount: 1))
        undo.append { await leaseDatabase.shutdown() }
        self.leaseDatabase = leaseDatabase
        // If there is no database, the program ends with libpq's message. Its service manager restarts it.
        _ = try await database.run("connect", timeout: Self.connectTimeout) { _ throws(PostgresError) in true
        }
        let ran = try await Migrator.migrate(database)
        if !ran.isEmpty { logger.notice("the schema was migrated", metadata: ["migrations": "\(ran)"]) }

        var configuration = JobStore.Configuration()
        configuration.notifyChannel = try await JobStore.notifyChannel(database)
        let store = JobStore(
            database: database, leaseDatabase: leaseDatabase, configuration: configuration)
        self.store = store
        for (queue, of) in settings.queues {
            if let limit = of.userLimit { try await store.setQueueLimit(limit, queue: queue, by: .settings) }
        }

        let changes = ChangeFeed(store: store, configuration: Self.changes(settings), logger: logger)
        let resumeTokens = ResumeTokens(secret: try await store.secret(ResumeTokens.secretName))
        let hub = WatchHub(store: store, tokens: resumeTokens, logger: logger)
        let node = WorkerNode(
            store: store, runners: runners, configuration: Self.node(settings), logger: logger,
            runtime: .system, publish: { changes.publish([$0]) }, onPeers: { changes.setPeers($0) })
        changes.subscribe(hub)
        changes.subscribe(node)
        self.changes = changes
        self.hub = hub
        self.node = node
        let listener = try Listener(connection, channels: [configuration.notifyChannel]) { event in
            switch event {
            case .notification(_, let payload) where payload == String(store.nodeNumber): break
            case .connected, .notification:
                changes.wake()
            case .disconnected(let error):
                logger.debug("not listening for notifications", metadata: ["error": "\(error)"])
            }
        }
        undo.append { await listener.stop() }
        self.listener = listener
        health = HealthState()
        let kinds = KnownKinds(store: store, isOwn: { node.handles($0) })
        let quotas = UserQuotas(store: store, limits: Self.quotas(settings))
        let pageTokens = PageTokens(secret: try await store.secret(PageTokens.secretName))
        jobs = JobOperations(store: store, kinds: kinds, quotas: quotas, pageTokens: pageTokens)
        watches = WatchOperations(store: store, hub: hub, quotas: quotas)
        admin = AdminOperations(
            store: store, defaultUserLimit: settings.userLimit, pageTokens: pageTokens)
        let info = InfoOperations(
            version: signalboxVersion, node: settings.nodeName, heartbeatInterval: hub.heartbeatInterval,
            retention: settings.retention)
        let methods =
            JobServiceHandlers(jobs: jobs).methods + [WatchHandler(watches: watches).method]
            + AdminServiceHandlers(admin: admin).methods + [InfoServiceHandler(info: info).method]
            + StandardHandlers(health: health).methods
        let authenticator = try await Self.authenticator(settings, logger)
        self.authenticator = authenticator
        var serverConfiguration = Self.server(settings, logger)
        serverConfiguration.admission = AccessControl(authenticator)
        let refusals = Refusals(logger: logger)
        self.refusals = refusals
        serverConfiguration.refusals = refusals
        let server = Server(configuration: serverConfiguration, methods: methods, logger: logger)
        self.server = server
        undo.append { await server.shutdown(grace: .zero) }
        store.startJobs(with: node)
        try await node.register()
        undo.append { await node.shutdown(grace: .zero) }
        try await changes.open()
        try await server.start()
        // The other nodes learn at once that there is another node.
        try await store.notifyPeers()
    }

    /// The address that it listens on, as host:port.
    var address: String { "\(settings.listen.host):\(server.port ?? settings.listen.port)" }

    /// Serves until `untilShutdown` returns, and then stops in order: no new work, runs end or are given back,
    /// watches are asked to reconnect elsewhere, connections are closed.
    func run(untilShutdown: @escaping @Sendable () async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await node.run() }
            group.addTask { await changes.run() }
            group.addTask { await hub.run() }
            group.addTask { await Self.log(refusals) }
            group.addTask { await reloadFiles() }
            if let authenticator {
                group.addTask { await Self.refreshKeys(of: authenticator) }
            }
            if let embeddedPostgres {
                group.addTask { try? await embeddedPostgres.monitor() }
            }
            health.set(serving: true)
            await untilShutdown()
            logger.notice("shutting down")
            health.set(serving: false)
            health.end()
            let grace = settings.grace
            async let drained: Void = server.shutdown(grace: grace + .seconds(3))
            await node.shutdown(grace: grace)
            hub.end()
            await drained
            group.cancelAll()
        }
        await listener.stop()
        await database.shutdown()
        await leaseDatabase.shutdown()
        await embeddedPostgres?.stop()
        logger.notice("stopped")
    }

    static func connection(
        _ connectionString: String, password: String? = nil, logger: Logger
    ) -> Connection.Configuration {
        Connection.Configuration(
            connectionString: connectionString, password: password, applicationName: "signalbox",
            sessionSettings: JobStore.sessionSettings, sessionStatements: JobStore.sessionStatements,
            logger: logger)
    }

    // MARK: Authentication

    /// The authenticator for calls; nil if no credentials are needed.
    private static func authenticator(
        _ settings: ServerSettings, _ logger: Logger
    ) async throws -> Authenticator? {
        guard settings.authenticates else { return nil }
        let fetcher = KeySetFetcher()
        // It reads files, which blocks.
        return try await NIOThreadPool.singleton.runIfActive {
            try Authenticator(settings.authentication, logger: logger, fetch: { try await fetcher.fetch($0) })
        }
    }

    /// The interval at which the files are read. A change counts at the second read that finds it.
    private static let filesCheckInterval = Duration.milliseconds(500)
    private static let keysCheckInterval = Duration.seconds(1)

    /// Reads the files with tokens, keys and certificates when they have changed, until the task is cancelled. A read may
    /// hang with its file system, so neither the other files nor the shutdown wait for it.
    private func reloadFiles() async {
        var reloads: [FileReload] = []
        if let authenticator { reloads.append(FileReload { authenticator.reload() }) }
        if settings.tlsCertificate != nil { reloads.append(FileReload { [server] in server.reloadFiles() }) }
        guard !reloads.isEmpty else { return }
        while (try? await Task.sleep(for: Self.filesCheckInterval)) != nil {
            for reload in reloads { reload.start() }
        }
    }

    /// Fetches the keys when a fetch is due, until the task is cancelled.
    private static func refreshKeys(of authenticator: Authenticator) async {
        repeat {
            await authenticator.refreshKeys()
        } while (try? await Task.sleep(for: keysCheckInterval)) != nil
    }

    /// Writes to the log the refusals since the last line, until the task is cancelled.
    private static func log(_ refusals: Refusals) async {
        while (try? await Task.sleep(for: Refusals.tickInterval)) != nil { refusals.tick() }
    }

    private static func changes(_ settings: ServerSettings) -> ChangeFeed.Configuration {
        var configuration = ChangeFeed.Configuration()
        configuration.pollInterval = settings.pollInterval
        return configuration
    }

    private static func node(_ settings: ServerSettings) -> WorkerNode.Configuration {
        var configuration = WorkerNode.Configuration(
            name: settings.nodeName, version: signalboxVersion, concurrency: settings.concurrency)
        configuration.defaultUserLimit = settings.userLimit
        configuration.lease = settings.lease
        configuration.pollInterval = settings.pollInterval
        configuration.grace = settings.grace
        configuration.retention = settings.retention
        configuration.auditRetention = settings.auditRetention
        return configuration
    }

    private static func quotas(_ settings: ServerSettings) -> UserQuotas.Limits {
        var limits = UserQuotas.Limits()
        limits.pendingJobsMax = settings.maxPendingPerUser
        limits.pendingBytesMax = settings.maxPendingPayloadPerUser
        limits.enqueuesPerSecond = settings.enqueueRatePerUser
        limits.watchesMax = settings.maxWatchesPerUser
        return limits
    }

    private static func server(_ settings: ServerSettings, _ logger: Logger) -> ServerConfiguration {
        var configuration = ServerConfiguration()
        configuration.addresses = [settings.listen]
        configuration.eventLoopThreads = settings.eventLoops
        configuration.connectionsMax = settings.maxConnections
        configuration.connectionsPerAddressMax = settings.maxConnectionsPerAddress
        configuration.idleTimeout = settings.idleTimeout
        configuration.keepaliveInterval = settings.keepaliveInterval
        configuration.keepaliveTimeout = settings.keepaliveTimeout
        configuration.connectionAgeMax = settings.maxConnectionAge
        configuration.connectionAgeGrace = settings.maxConnectionAgeGrace
        configuration.detailsEncoder = StatusMapping.details
        configuration.errorMapper = { error, path in
            let status = StatusMapping.status(for: error)
            if [.internalError, .unavailable].contains(status.code) {
                logger.warning("a call failed", metadata: ["method": "\(path)", "error": "\(error)"])
            }
            return status
        }
        if let certificate = settings.tlsCertificate, let key = settings.tlsKey {
            configuration.tls = .init(
                certificateChainPath: certificate, privateKeyPath: key, clientCAPath: settings.tlsClientCA)
        }
        return configuration
    }
}
