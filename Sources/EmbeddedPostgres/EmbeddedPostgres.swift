import FoundationEssentials
package import Logging
import Postgres
import Synchronization

import Glibc

/// A Postgres server of our own, for those who have none: made, started, watched and stopped here.
///
/// It listens on a Unix socket only, in a directory that only its user may enter, and lets in only the user that we run as,
/// whom the kernel names to it (`AccessFiles`). The service's role owns its database and nothing else (`DatabaseSetup`).
/// The server is a daemon: it survives our death, and the next owner of the state directory takes it over. Its durability
/// is the stock one.
package final class EmbeddedPostgres: Sendable {
    package struct Configuration: Sendable {
        /// Where the data is kept; `nil`: `$STATE_DIRECTORY`, then `/var/lib/signalbox` for root, then
        /// `$XDG_STATE_HOME/signalbox` or `~/.local/state/signalbox`.
        package var stateDirectory: String?
        /// Where `postgres`, `initdb` and `pg_ctl` are; `nil`: `$SIGNALBOX_POSTGRES_BIN_DIRECTORY`, then they are
        /// looked for.
        package var binDirectory: String?
        /// How long the server may take to answer, crash recovery included.
        package var startTimeout: Duration
        /// How long a fast shutdown may take before an immediate one (which the next start recovers from).
        package var stopTimeout: Duration

        package init(
            stateDirectory: String? = nil, binDirectory: String? = nil, startTimeout: Duration = .seconds(60),
            stopTimeout: Duration = .seconds(30)
        ) {
            self.stateDirectory = stateDirectory
            self.binDirectory = binDirectory
            self.startTimeout = startTimeout
            self.stopTimeout = stopTimeout
        }
    }

    static let port = 5432
    /// The cluster's superuser, which `initdb` makes and nothing can demote; we are it while we set things up. Its name is
    /// that in the data of every version.
    static let superuser = "signalbox"
    /// The service's role, which can do nothing outside of its database.
    static let role = "signalbox_service"
    static let database = "signalbox"

    /// The connection string for the service's role.
    package let connectionString: String
    private let configuration: Configuration
    private let directory: StateDirectory
    private let tools: ServerTools
    private let user: ServerUser?
    private let lock: StateLock
    private let logger: Logger
    private let isStopping = Mutex(false)

    /// The process of the server, as it wrote it down; for messages and tests.
    package var postmasterID: Int32? { directory.postmasterID() }

    // MARK: Starting

    /// Takes the state directory, makes the data if there is none, starts the server unless it still runs, and returns
    /// when it answers.
    package static func start(_ configuration: Configuration, logger: Logger) async throws -> EmbeddedPostgres
    {
        let environment = ProcessInfo.processInfo.environment
        let directory = try StateDirectory(
            StateDirectory.path(
                explicit: configuration.stateDirectory, environment: environment, isRoot: ServerUser.isRoot)
        ).made(isRoot: ServerUser.isRoot)
        let lock = try StateLock(directory)
        let user = try ServerUser.choose(for: directory)
        // Postgres requires this too; it also allows a group to read.
        try FileStatus.find(directory.data)?.checkIsFolder(of: user?.userID ?? geteuid(), forbidden: 0o027)
        try ServerUser.makeDirectory(directory.run, for: user)
        let dataVersion = try directory.dataVersion()
        let tools = try await ServerTools.find(
            explicit: configuration.binDirectory ?? environment["SIGNALBOX_POSTGRES_BIN_DIRECTORY"],
            dataVersion: dataVersion)
        let server = EmbeddedPostgres(configuration, directory, tools, user, lock, logger)
        if dataVersion == nil { try await server.makeData() }
        try AccessFiles.write(in: directory.data, for: user)
        try await server.ensureRunning()
        do {
            try await DatabaseSetup.run { server.superuserConnection(database: $0) }
        } catch {
            await server.stop()
            throw error
        }
        return server
    }

    private init(
        _ configuration: Configuration, _ directory: StateDirectory, _ tools: ServerTools,
        _ user: ServerUser?,
        _ lock: StateLock, _ logger: Logger
    ) {
        self.configuration = configuration
        self.directory = directory
        self.tools = tools
        self.user = user
        self.lock = lock
        self.logger = logger
        self.connectionString = Self.connectionString(directory, role: Self.role, database: Self.database)
    }

    /// The path holds nothing that ends the quotes: `StateDirectory` saw to that.
    private static func connectionString(
        _ directory: StateDirectory, role: String, database: String
    ) -> String {
        "host='\(directory.run)' port=\(port) user=\(role) dbname=\(database)"
    }

    private func superuserConnection(database: String) -> Connection.Configuration {
        Connection.Configuration(
            connectionString: Self.connectionString(directory, role: Self.superuser, database: database),
            applicationName: "signalbox", sessionSettings: DatabaseSetup.sessionSettings, logger: logger)
    }

    /// Makes the data next to its place and renames it, so that what is at its place is whole.
    private func makeData() async throws {
        let unfinished = directory.unfinishedData
        logger.info("making a database", metadata: ["directory": "\(directory.data)"])
        if try FileStatus.find(unfinished) != nil {
            try ServerUser.makeDirectory(unfinished, for: user)
            // By its owner: it may put links in there while root removes what they lead to.
            let outcome = try await tools.run(
                "find", [unfinished, "-mindepth", "1", "-delete"], as: user, timeout: .seconds(60))
            guard outcome.isSuccess else {
                throw EmbeddedPostgresError(.stateDirectory, "cannot empty \(unfinished): \(outcome.text)")
            }
        }
        try ServerUser.makeDirectory(unfinished, for: user)
        let outcome = try await tools.run(
            "initdb",
            [
                "-D", unfinished, "-U", Self.superuser, "--encoding=UTF8", "--locale=C", "--auth-local=peer",
                "--auth-host=reject",
            ], as: user, timeout: .seconds(120))
        guard outcome.isSuccess else {
            throw EmbeddedPostgresError(.tool, "initdb failed: \(outcome.text)")
        }
        guard unsafe rename(unfinished, directory.data) == 0 else {
            throw EmbeddedPostgresError(
                .stateDirectory, "cannot rename \(unfinished): \(StateLock.lastError())")
        }
    }

    /// Returns when the server answers, having started it if need be. Waits for one that is on its way out, or whose
    /// last children are.
    private func ensureRunning() async throws {
        let deadline = ContinuousClock.now + configuration.startTimeout
        while true {
            guard let noAnswer = await connectError() else { return }
            unsafe unlink(directory.startLog)
            let seconds = max(1, Int((deadline - .now).components.seconds))
            // No argument has a path in it but the two that `StateDirectory` checked: the rest goes through a shell.
            let outcome = try await tools.run(
                "pg_ctl",
                [
                    "start", "--wait", "--timeout=\(seconds)", "-D", directory.data, "-l", directory.startLog,
                    "-o",
                    // The log: a file a day of the week, begun anew each time. Without the details of errors, which may
                    // be rows, with payloads in them.
                    "-k ../run -c unix_socket_permissions=0700 -p \(Self.port) -c listen_addresses= "
                        + "-c logging_collector=on "
                        + "-c log_filename=postgresql-%a.log -c log_truncate_on_rotation=on -c log_rotation_size=0 "
                        + "-c log_error_verbosity=terse",
                ], as: user, timeout: .seconds(seconds + 10))
            if outcome.isSuccess, await connectError() == nil {
                logger.info(
                    "started Postgres",
                    metadata: ["process": "\(postmasterID ?? 0)", "directory": "\(directory.data)"])
                return
            }
            let messages = directory.startMessages()
            let isInTheWay = ["already exists", "still in use", "Address already in use"].contains {
                messages.contains($0)
            }
            guard isInTheWay || outcome.isSuccess, ContinuousClock.now < deadline else {
                throw EmbeddedPostgresError(
                    .notAnswering, "Postgres does not start: \(outcome.text)\n\(messages)", cause: noAnswer)
            }
            try await Task.sleep(for: .milliseconds(200))
        }
    }

    /// Why the server does not answer; `nil` when it does.
    private func connectError() async -> PostgresError? {
        do throws(PostgresError) {
            try await Connection.once(superuserConnection(database: "postgres")) { _ in }
            return nil
        } catch {
            return error
        }
    }

    // MARK: Running

    /// Starts the server again whenever it dies. Returns when the task is cancelled, or after `stop`.
    package func monitor() async throws {
        // A connection that does nothing but break. While it cannot be made, it says so again and again, with
        // backoff; only the latest matters.
        let (events, sink) = AsyncStream.makeStream(
            of: Listener.Event.self, bufferingPolicy: .bufferingNewest(1))
        let connection = Connection.Configuration(
            connectionString: connectionString, applicationName: "signalbox", logger: logger)
        let listener = try Listener(connection, channels: []) { sink.yield($0) }
        for await event in events {
            if isStopping.withLock({ $0 }) { break }
            guard case .disconnected(let error) = event else { continue }
            logger.warning("Postgres does not answer", metadata: ["error": "\(error)"])
            do {
                try await ensureRunning()
            } catch {
                if Task.isCancelled { break }
                logger.error("Postgres could not be started again", metadata: ["error": "\(error)"])
            }
            // Stopped while it was being started.
            if isStopping.withLock({ $0 }) { await stopServer() }
        }
        await listener.stop()
    }

    // MARK: Stopping

    /// Stops the server: transactions are aborted, and nothing committed is lost. Another process may take the state
    /// directory once this object is gone.
    package func stop() async {
        isStopping.withLock { $0 = true }
        await stopServer()
    }

    private func stopServer() async {
        for (mode, timeout) in [("fast", configuration.stopTimeout), ("immediate", .seconds(10))] {
            let seconds = max(1, timeout.components.seconds)
            let outcome = try? await tools.run(
                "pg_ctl",
                ["stop", "--wait", "--mode=\(mode)", "--timeout=\(seconds)", "-D", directory.data], as: user,
                timeout: .seconds(seconds + 5))
            if outcome?.isSuccess == true { return }
            guard let id = postmasterID, kill(id, 0) == 0 || errno == EPERM else { return }
            logger.warning(
                "Postgres did not stop", metadata: ["mode": "\(mode)", "output": "\(outcome?.text ?? "")"])
        }
    }
}
