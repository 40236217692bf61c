public import Foundation
import JobModel
import JobStore
package import JobEngine
public import Logging
import NIOPosix
import Postgres
public import ServiceLifecycle
package import Settings
import Support
import UnixSignals

/// This program's version.
package let signalboxVersion = "0.1.0"

/// A job server inside your program, with handlers of your own.
///
/// ```swift
/// @main struct Main {
///     static func main() async { await SignalboxServer.main(handlers: [Greet()]) }
/// }
/// ```
///
/// Its settings are those of `signalbox serve` (flags, environment, file) or those of a `SignalboxConfiguration`.
///
/// Handlers are part of the process: they can read all that the server knows, including the database's password
/// and every job. Work that must not be able to do so runs as a command, with a user of its own
/// (docs/command-handlers.md).
public struct SignalboxServer: Service, CustomStringConvertible {
    private let settings: ServerSettings
    /// The environment, of which commands receive a part. It may contain secrets, so it is never logged.
    private let environment: [String: String]
    /// The password if the database's address has none. If nil, libpq reads the environment.
    private let databasePassword: String?
    private let runners: [any JobRunner]
    private let logger: Logger
    private let running = RunningServer()

    /// The name in the logs of a service group. It has none of the settings, which may contain a password.
    public var description: String { "SignalboxServer" }

    /// The jobs of this server, for the program that embeds it, without a connection. Calls may do everything.
    /// They wait up to 30 seconds for the server to start, and throw `unavailable` after it has ended. A watch
    /// whose reader is too slow throws `aborted`; watch again after the last sequences then.
    public var jobs: any JobQueue { EmbeddedJobs(server: running) }

    /// Makes a server with the settings of flags, environment and file.
    ///
    /// - Parameters:
    ///   - handlers: one for each kind.
    ///   - middleware: runs around every attempt of the handlers, the first one outermost.
    ///   - arguments: the flags of `signalbox serve`, without the program's name.
    ///   - environment: variables such as `SIGNALBOX_LISTEN`, and those that commands need.
    ///   - logger: the server's log.
    ///
    /// Throws an error that names every wrong setting.
    public init(
        handlers: [any RawJobHandler], middleware: [any JobMiddleware] = [], arguments: [String] = [],
        environment: [String: String] = ProcessInfo.processInfo.environment, logger: Logger
    ) throws {
        self.init(
            settings: try Self.resolveSettings(arguments: arguments, environment: environment),
            environment: environment, runners: Self.runners(handlers, middleware, logger), logger: logger)
    }

    /// Makes a server with the settings of `configuration`. Flags are not read, and of the environment only the
    /// variables that the commands of its file need.
    ///
    /// - Parameters:
    ///   - handlers: one for each kind.
    ///   - middleware: runs around every attempt of the handlers, the first one outermost.
    ///   - configuration: the settings.
    ///   - logger: the server's log.
    ///
    /// Throws an error that names every wrong setting.
    public init(
        handlers: [any RawJobHandler], middleware: [any JobMiddleware] = [],
        configuration: SignalboxConfiguration, logger: Logger
    ) throws {
        self.init(
            settings: try Self.checked(try ServerSettings.resolve(values: configuration.values)),
            runners: Self.runners(handlers, middleware, logger), logger: logger)
    }

    package init(
        settings: ServerSettings, environment: [String: String] = ProcessInfo.processInfo.environment,
        databasePassword: String? = nil, runners: [any JobRunner] = [], logger: Logger
    ) {
        self.settings = settings
        self.environment = environment
        self.databasePassword = databasePassword
        self.runners = runners
        self.logger = logger
    }

    /// Serves until a graceful shutdown is triggered (`ServiceGroup`) or the task is cancelled. Prints one line,
    /// `signalbox: serving on HOST:PORT`, once it is ready.
    ///
    /// If its settings have commands, other processes of its user, such as the commands, can then neither read
    /// nor trace this process, and it writes no core files (PR_SET_DUMPABLE of prctl(2)).
    public func run() async throws {
        defer { running.stops() }
        for warning in settings.warnings { logger.warning(warning) }
        if let notice = settings.unverifiedDatabaseNotice { logger.notice(notice) }
        let assembly: Assembly
        do {
            let runners = try await allRunners()
            assembly = try await cancelWhenGracefulShutdown {
                try await Assembly.start(
                    settings, databasePassword: databasePassword, runners: runners, logger: logger)
            }
        } catch {
            // A shutdown before the server was up is not an error.
            if Task.isShuttingDownGracefully { return }
            throw error
        }
        print("signalbox: serving on \(assembly.address)")
        // Flushed, because a program may wait for the line through a pipe.
        fflush(nil)
        running.starts(.init(jobs: assembly.jobs, watches: assembly.watches))
        await assembly.run { try? await gracefulShutdown() }
    }

    /// Runs a whole program: reads the settings, serves until SIGTERM or SIGINT, and exits.
    ///
    /// Other processes of its user can then neither read nor trace this process, and it writes no core files.
    /// `SIGNALBOX_DATABASE_URL`, `SIGNALBOX_TOKEN` and `PGPASSWORD` are removed from its environment once they
    /// have been read, so that programs which handlers start do not inherit them.
    ///
    /// Exit codes: 0 after an orderly shutdown, 64 for wrong settings, 1 for all other errors.
    public static func main(
        handlers: [any RawJobHandler], middleware: [any JobMiddleware] = []
    ) async -> Never {
        var arguments = Array(CommandLine.arguments.dropFirst())
        if arguments.first == "serve" { arguments.removeFirst() }
        await main(handlers: handlers, middleware: middleware, arguments: arguments)
    }

    package static func main(
        handlers: [any RawJobHandler], middleware: [any JobMiddleware] = [], arguments: [String]
    ) async -> Never {
        if ServerSettings.asksForHelp(arguments) {
            print(ServerSettings.help)
            exit(0)
        }
        let environment = ProcessInfo.processInfo.environment
        do {
            try ProcessSecrets.forbidReading()
            let settings = try Self.resolveSettings(arguments: arguments, environment: environment)
            try checkFlags(settings)
            ProcessSecrets.forgetVariables()
            let logger = ServerLog.start(settings)
            exitAtSecondSignal()
            let server = SignalboxServer(
                settings: settings, environment: environment, databasePassword: environment["PGPASSWORD"],
                runners: runners(handlers, middleware, logger), logger: logger)
            let group = ServiceGroup(
                services: [server], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
            try await group.run()
            exit(0)
        } catch {
            complain("\(error)")
            exit(error is SettingsError ? 64 : 1)
        }
    }

    /// Refuses a password in a flag if there are commands. Every process of the machine can read the flags of
    /// another one, and a job's user may choose what a command does.
    private static func checkFlags(_ settings: ServerSettings) throws(SettingsError) {
        guard settings.passwordInFlagWarning != nil, !settings.commands.isEmpty else { return }
        throw SettingsError(problems: [
            "--database-url: has a password, which commands could read in the arguments of the server: give it in "
                + "SIGNALBOX_DATABASE_URL or in the file"
        ])
    }

    /// Exits at the second signal without waiting. Other nodes rescue the runs that are left.
    private static func exitAtSecondSignal() {
        Task {
            var count = 0
            for await _ in await UnixSignalsSequence(trapping: .sigterm, .sigint) {
                count += 1
                guard count > 1 else { continue }
                complain("stopped at once; other nodes will rescue its runs when the lease ends")
                exit(1)
            }
        }
    }

    /// `signalbox migrate`: brings the database of the settings to this program's schema, prints which migrations
    /// ran, and exits with the codes of `main`.
    package static func migrate(arguments: [String]) async -> Never {
        if ServerSettings.asksForHelp(arguments) {
            print(
                "Migrates the database of --database-url to this program's schema. It takes the settings of serve."
            )
            exit(0)
        }
        do {
            try ProcessSecrets.forbidReading()
            let settings = try Self.resolveSettings(
                arguments: arguments, environment: ProcessInfo.processInfo.environment)
            guard let url = settings.databaseURL else {
                throw SettingsError(problems: ["migrate requires database-url"])
            }
            let logger = ServerLog.start(settings)
            if let warning = settings.passwordInFlagWarning { logger.warning(warning) }
            let database = try Database(
                Database.Configuration(
                    connection: Assembly.connection(url, logger: logger), connectionCount: 1))
            let ran = try await Migrator.migrate(database)
            await database.shutdown()
            let list = ran.map(String.init).joined(separator: ", ")
            print(ran.isEmpty ? "the schema is current" : "ran migrations \(list)")
            exit(0)
        } catch {
            complain("\(error)")
            exit(error is SettingsError ? 64 : 1)
        }
    }

    /// Resolves the settings. The database's address is checked before any message of libpq about it is logged.
    private static func resolveSettings(
        arguments: [String], environment: [String: String]
    ) throws(SettingsError) -> ServerSettings {
        try checked(try ServerSettings.resolve(arguments: arguments, environment: environment))
    }

    private static func checked(_ settings: ServerSettings) throws(SettingsError) -> ServerSettings {
        if let url = settings.databaseURL, let problem = Connection.problem(ofConnectionString: url) {
            throw SettingsError(problems: ["database-url: \(problem)"])
        }
        return settings
    }

    private func allRunners() async throws -> [any JobRunner] {
        var all = runners
        // A server that cannot start the threads of its handlers does not start.
        if !runners.isEmpty { _ = try HandlerThreads.executor.get() }
        all += try await commandRunners()
        if settings.testKinds { all += TestRunners.all(on: .system) }
        var kinds: Set<String> = []
        for runner in all {
            let kind = runner.definition.kind
            guard kinds.insert(kind).inserted else {
                throw SettingsError(problems: ["two handlers for the kind \(kind)"])
            }
            guard !kind.isEmpty, kind.utf8.count <= JobLimits.kindBytesMax,
                kind.utf8.allSatisfy(FieldCheck.isNameByte)
            else { throw SettingsError(problems: ["\(kind) is not a valid name of a kind"]) }
        }
        return all
    }

    private static func runners(
        _ handlers: [any RawJobHandler], _ middleware: [any JobMiddleware], _ logger: Logger
    ) -> [any JobRunner] {
        func runner(_ handler: some RawJobHandler) -> any JobRunner {
            HandlerRunner(handler, middleware: middleware, logger: logger)
        }
        return handlers.map { runner($0) }
    }

    private func commandRunners() async throws -> [any JobRunner] {
        guard !settings.commands.isEmpty else { return [] }
        try ProcessSecrets.forbidReading()
        // It looks up users in the system's database, which blocks.
        return try await NIOThreadPool.singleton.runIfActive { [settings, environment] in
            try CommandSetup.runners(settings.commands, environment: environment)
        }
    }

    private static func complain(_ text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            .map { PrintableText.escaped(String($0)) }.joined(separator: "\n")
        FileHandle.standardError.write(Data("signalbox: \(lines)\n".utf8))
    }
}
