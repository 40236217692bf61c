import ArgumentParser
import ClientCommands
import Foundation
import Signalbox

/// The program: a server, and a client for it.
@main
struct SignalboxProgram: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "signalbox",
        abstract: "A job service: enqueue over gRPC, watch, cancel. Postgres is all it needs.",
        discussion: exitCodesHelp,
        version: signalboxVersion,
        subcommands: [Serve.self, Migrate.self, TokenCommand.self] + clientCommands)
}

/// `signalbox serve`. Its settings are parsed by a reader of their own, which also reads the environment and the
/// file.
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a server. `signalbox serve --help` lists every setting.", helpNames: [])

    @Argument(parsing: .allUnrecognized, help: .hidden) var settings: [String] = []

    func run() async throws {
        await SignalboxServer.main(handlers: [], arguments: settings)
    }
}

/// `signalbox migrate`, which brings a database to this program's schema.
struct Migrate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Migrate a database to this program's schema. `serve` does so at each start.", helpNames: []
    )

    @Argument(parsing: .allUnrecognized, help: .hidden) var settings: [String] = []

    func run() async throws {
        await SignalboxServer.migrate(arguments: settings)
    }
}
