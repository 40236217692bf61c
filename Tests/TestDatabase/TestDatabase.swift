import Foundation
import Logging
package import Postgres

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

    /// How to connect to the server, without a schema of its own.
    package static var connectionString: String {
        get async throws { try await server.value.connectionString }
    }

    /// Runs `body` with a schema that is dropped afterwards.
    package static func withSchema<R: Sendable>(
        _ body: (TestSchema) async throws -> R
    ) async throws -> R {
        let name = "t_" + UUID().uuidString.lowercased().replacing("-", with: "")
        let schema = TestSchema(name: name, connectionString: try await connectionString)
        try await script("CREATE SCHEMA \(name)")
        do {
            let value = try await body(schema)
            try await script("DROP SCHEMA \(name) CASCADE")
            return value
        } catch {
            try? await script("DROP SCHEMA \(name) CASCADE")
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
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
        }
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
