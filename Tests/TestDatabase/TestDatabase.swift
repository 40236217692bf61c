import Foundation
import Logging
package import Postgres
import Synchronization
import Threads

/// A throwaway server, one per test process, and a schema of its own for each test.
///
/// The server is started when the first test asks for it, and ends with the process, even if that crashes. With
/// `SIGNALBOX_TEST_DATABASE_URL` set, that server is used instead and only schemas are made in it.
package enum TestDatabase {
    private static let server = Task { () throws -> ThrowawayServer in
        if let url = ProcessInfo.processInfo.environment["SIGNALBOX_TEST_DATABASE_URL"], !url.isEmpty {
            return ThrowawayServer(connectionString: url, lifeline: nil)
        }
        return try await onThread { try ThrowawayServer.start() }
    }

    /// Tests that use the server at once: their connections must be fewer than it takes.
    private static let turns = Turns(count: 12)

    /// How to connect to the server, without a schema of its own.
    package static var connectionString: String {
        get async throws { try await server.value.connectionString }
    }

    /// Runs `body` with a schema that is dropped afterwards.
    package static func withSchema<R: Sendable>(
        _ body: (TestSchema) async throws -> R
    ) async throws -> R {
        await turns.take()
        defer { turns.giveBack() }
        let name = "t_" + UUID().uuidString.lowercased().replacing("-", with: "")
        let schema = TestSchema(name: name, connectionString: try await connectionString)
        try await script("CREATE SCHEMA \(name)")
        do {
            let value = try await body(schema)
            try await script(schema.drop)
            return value
        } catch {
            try? await script(schema.drop)
            throw error
        }
    }

    private static func script(_ sql: String) async throws {
        let configuration = Connection.Configuration(
            connectionString: try await connectionString, applicationName: "tests",
            logger: Logger(label: "tests"))
        try await Connection.once(configuration) { connection throws(PostgresError) in
            try connection.executeScript(sql)
        }
    }

    /// Runs blocking code off the threads of Swift's tasks.
    package static func onThread<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        try await OSThread.run { Result { try body() } }.get()
    }
}

/// Lets a number of tasks go on at once; the others wait in line.
private final class Turns: Sendable {
    private struct State {
        var free: Int
        var line: [CheckedContinuation<Void, Never>] = []
    }

    private let state: Mutex<State>

    init(count: Int) {
        state = Mutex(State(free: count))
    }

    func take() async {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                if state.free == 0 {
                    state.line.append(continuation)
                    return false
                }
                state.free -= 1
                return true
            }
            if isFree { continuation.resume() }
        }
    }

    func giveBack() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard !state.line.isEmpty else {
                state.free += 1
                return nil
            }
            return state.line.removeFirst()
        }
        next?.resume()
    }
}

/// Where one test keeps its tables.
package struct TestSchema: Sendable {
    package let name: String
    /// Leads to the server, not to the schema: set `sessionSettings` too.
    package let connectionString: String

    package var sessionSettings: [String: String] { ["search_path": name] }

    package func connectionConfiguration(timeout: Duration = .seconds(30)) -> Connection.Configuration {
        Connection.Configuration(
            connectionString: connectionString, applicationName: "tests", sessionSettings: sessionSettings,
            timeout: timeout, logger: Logger(label: "tests"))
    }

    /// Runs `body` with a database of `connectionCount` connections to the schema.
    package func withDatabase<R: Sendable>(
        connectionCount: Int = 1, queueCountMax: Int = 1024, _ body: (Database) async throws -> R
    ) async throws -> R {
        let database = try Database(
            .init(
                connection: connectionConfiguration(), connectionCount: connectionCount,
                queueCountMax: queueCountMax, timeout: .seconds(30)))
        do {
            let value = try await body(database)
            await database.shutdown()
            return value
        } catch {
            await database.shutdown()
            throw error
        }
    }
}
