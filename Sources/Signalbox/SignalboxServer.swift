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
/// Handlers are a part of the process: they can read all that the server knows, including the database's password and
/// every job. Work that must not be able to do so runs as a command, with a user of its own (docs/command-handlers.md).
public struct SignalboxServer: Service, CustomStringConvertible {
    private let settings: ServerSettings
    /// Commands receive a part of it. It may hold secrets, so it is never logged.
    private let environment: [String: String]
    /// Used where the database's address has no password. Nil: libpq looks in its environment.
    private let databasePassword: String?
    private let runners: [any JobRunner]
    private let logger: Logger
    private let running = RunningServer()

    /// The name in the logs of a service group. The settings, which may hold a password, are not in it.
    public var description: String { "SignalboxServer" }

    /// The jobs of this server, for the program that embeds it, without a connection. Its calls may do everything, and wait
    /// up to 30 seconds for the server to start. After its end they throw `unavailable`. A reader of a watch that is too slow
    /// gets `aborted`: watch again after the last sequences.
    public var jobs: any JobQueue { EmbeddedJobs(server: running) }

    /// A server with the settings of flags, environment and file.
    ///
    /// - Parameters:
    ///   - handlers: one for each kind.
    ///   - middleware: runs around every attempt of the handlers, the first one outermost.
    ///   - arguments: flags as of `signalbox serve`, without the program's name.
    ///   - environment: variables such as `SIGNALBOX_LISTEN`, and those that commands ask for.
    ///   - logger: the server's log.
    ///
    /// Throws an error that names every setting which is wrong.
    public init(
        handlers: [any RawJobHandler], middleware: [any JobMiddleware] = [], arguments: [String] = [],
        environment: [String: String] = ProcessInfo.processInfo.environment, logger: Logger
    ) throws {
        self.init(
            settings: try Self.resolveSettings(arguments: arguments, environment: environment),
            environment: environment, runners: Self.runners(handlers, middleware, logger), logger: logger)
    }

    /// A server with the settings of `configuration`; flags are not looked at, and the environment only for the variables
    /// that the commands of its file ask for.
    ///
    /// - Parameters:
    ///   - handlers: one for each kind.
    ///   - middleware: runs around every attempt of the handlers, the first one outermost.
    ///   - configuration: the settings.
    ///   - logger: the server's log.
    ///
    /// Throws an error that names every setting which is wrong.
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
    /// With commands in its settings it makes the process one that others of its user, such as the commands, can neither
    /// read nor trace, and that writes no core files (PR_SET_DUMPABLE of prctl(2)).
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
        // The line is for a program that waits for it through a pipe.
        fflush(nil)
        running.starts(.init(jobs: assembly.jobs, watches: assembly.watches))
        await assembly.run { try? await gracefulShutdown() }
    }

    /// Runs a whole program: reads the settings, serves until SIGTERM or SIGINT, exits.
    ///
    /// The process becomes one that others of its user can neither read nor trace, and that writes no core files.
    /// `SIGNALBOX_DATABASE_URL`, `SIGNALBOX_TOKEN` and `PGPASSWORD` leave its environment once they are read, so that
    /// programs which handlers start do not inherit them.
    ///
    /// Exit codes: 0 after a shutdown in order, 64 for settings that are wrong, 1 for all else.
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

    /// Every process of the machine can read the flags of another one, and a command may do what a job's user chooses.
    private static func checkFlags(_ settings: ServerSettings) throws(SettingsError) {
        guard settings.passwordInFlagWarning != nil, !settings.commands.isEmpty else { return }
        throw SettingsError(problems: [
            "--database-url: has a password, which commands could read in the arguments of the server: give it in "
                + "SIGNALBOX_DATABASE_URL or in the file"
        ])
    }

    /// A second signal asks to stop at once: the other nodes rescue the runs that are left.
    private static func exitAtSecondSignal() {
        Task {
            var count = 0
            for await _ in await UnixSignalsSequence(trapping: .sigterm, .sigint) {
                count += 1
                guard count > 1 else { continue }
                complain("stopped at once; what still ran will be rescued when its lease ends")
                exit(1)
            }
        }
    }

    /// `signalbox migrate`: brings the database of the settings to this program's schema, prints what was
    /// done, and exits as `main` does.
    package static func migrate(arguments: [String]) async -> Never {
        if ServerSettings.asksForHelp(arguments) {
            print("Brings the database of --database-url to this program's schema. Settings as of serve.")
            exit(0)
        }
        do {
            try ProcessSecrets.forbidReading()
            let settings = try Self.resolveSettings(
                arguments: arguments, environment: ProcessInfo.processInfo.environment)
            guard let url = settings.databaseURL else {
                throw SettingsError(problems: ["migrate needs database-url"])
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

    /// The database's address is checked before anything that libpq says about it is logged.
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
        all += try await commandRunners()
        if settings.testKinds { all += TestRunners.all }
        var kinds: Set<String> = []
        for runner in all {
            let kind = runner.definition.kind
            guard kinds.insert(kind).inserted else {
                throw SettingsError(problems: ["two handlers for the kind \(kind)"])
            }
            guard !kind.isEmpty, kind.utf8.count <= JobLimits.kindBytesMax,
                kind.utf8.allSatisfy(FieldCheck.isNameByte)
            else { throw SettingsError(problems: ["\(kind) is not a name for a kind"]) }
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
        // It looks up users, which blocks.
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
