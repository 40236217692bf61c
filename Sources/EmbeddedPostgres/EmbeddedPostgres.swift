import FoundationEssentials
package import Logging
import Postgres
import Synchronization

import Glibc

/// The embedded Postgres: a server for installations without one. It is made, started, monitored and stopped here.
///
/// It listens on a Unix socket only, in a directory that only its user may enter, and lets in only the user that
/// this process runs as, by the identity that the kernel reports (`AccessFiles`). The service's role owns its
/// database and nothing else (`DatabaseSetup`). The server is a daemon: it survives the end of this process, and
/// the next owner of the state directory takes it over. Its durability settings are the defaults.
package final class EmbeddedPostgres: Sendable {
    package struct Configuration: Sendable {
        /// The directory for the data.
        package var stateDirectory: String
        /// The directory of `postgres`, `initdb` and `pg_ctl`; nil: `$SIGNALBOX_POSTGRES_BIN_DIRECTORY`, then a
        /// search in the usual directories.
        package var binDirectory: String?
        /// The time that the server may take until it answers, including crash recovery.
        package var startTimeout: Duration
        /// The time that a fast shutdown may take before an immediate one, from which the next start recovers.
        package var stopTimeout: Duration

        package init(
            stateDirectory: String, binDirectory: String? = nil, startTimeout: Duration = .seconds(60),
            stopTimeout: Duration = .seconds(30)
        ) {
            self.stateDirectory = stateDirectory
            self.binDirectory = binDirectory
            self.startTimeout = startTimeout
            self.stopTimeout = stopTimeout
        }
    }

    static let port = 5432
    /// The cluster's superuser, which `initdb` makes and which cannot be demoted. It is used only for the setup.
    /// Its name is the same in the data of every version.
    static let superuser = "signalbox"
    /// The service's role, which has no rights outside its database.
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

    /// The server's process id, from its `postmaster.pid`, for messages and tests.
    package var postmasterID: Int32? { directory.postmasterID() }

    // MARK: Starting

    /// Locks the state directory, makes the data if there is none, starts the server unless it still runs, and
    /// returns when it answers.
    package static func start(_ configuration: Configuration, logger: Logger) async throws -> EmbeddedPostgres
    {
        let environment = ProcessInfo.processInfo.environment
        let directory = try StateDirectory(configuration.stateDirectory).made(isRoot: ServerUser.isRoot)
        let lock = try StateLock(directory)
        let user = try ServerUser.choose(for: directory)
        // Postgres has the same requirement; it also allows its group to read.
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

    /// The path cannot end the quotes: `StateDirectory` has checked its characters.
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

    /// Makes the data under another name and renames it, so that the data directory is always complete.
    private func makeData() async throws {
        let unfinished = directory.unfinishedData
        logger.info("creating the database", metadata: ["directory": "\(directory.data)"])
        if try FileStatus.find(unfinished) != nil {
            try ServerUser.makeDirectory(unfinished, for: user)
            // Its owner runs the removal, because the owner could put links there, and root would remove what
            // they lead to.
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

    /// Returns when the server answers, after starting it if necessary. It waits for a server that is shutting
    /// down, and for its last child processes.
    private func ensureRunning() async throws {
        let deadline = ContinuousClock.now + configuration.startTimeout
        while true {
            guard let noAnswer = await connectError() else { return }
            unsafe unlink(directory.startLog)
            let seconds = max(1, Int((deadline - .now).components.seconds))
            // pg_ctl passes its arguments to a shell. Only two of them contain a path, which `StateDirectory` has
            // checked.
            let outcome = try await tools.run(
                "pg_ctl",
                [
                    "start", "--wait", "--timeout=\(seconds)", "-D", directory.data, "-l", directory.startLog,
                    "-o",
                    // The log has one file for each day of the week, which is overwritten after a week. Error
                    // details are left out, because they may be rows with payloads.
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
            let isTransient = ["already exists", "still in use", "Address already in use"].contains {
                messages.contains($0)
            }
            guard isTransient || outcome.isSuccess, ContinuousClock.now < deadline else {
                throw EmbeddedPostgresError(
                    .notAnswering, "Postgres does not start: \(outcome.text)\n\(messages)", cause: noAnswer)
            }
            try await Task.sleep(for: .milliseconds(200))
        }
    }

    /// The reason why the server does not answer; nil when it does.
    private func connectError() async -> PostgresError? {
        do throws(PostgresError) {
            try await Connection.once(superuserConnection(database: "postgres")) { _ in }
            return nil
        } catch {
            return error
        }
    }

    // MARK: Running

    /// Restarts the server whenever it dies. Returns when the task is cancelled, or after `stop`.
    package func monitor() async throws {
        // This connection only serves to notice that the server dies. While it cannot be made, it reports so with
        // backoff, and only the latest report matters.
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
                logger.error("could not restart Postgres", metadata: ["error": "\(error)"])
            }
            // The server may have been stopped while it was being started.
            if isStopping.withLock({ $0 }) { await stopServer() }
        }
        await listener.stop()
    }

    // MARK: Stopping

    /// Stops the server. Open transactions are aborted, and no committed one is lost. Another process may take
    /// the state directory once this object is gone.
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
