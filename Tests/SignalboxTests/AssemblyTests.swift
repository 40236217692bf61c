import Logging
import Postgres
import Settings
import TestDatabase
import Testing

@testable import Signalbox

@Suite(.timeLimit(.minutes(1))) struct AssemblyTests {
    private let logger = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

    private func settings(_ schema: TestSchema, name: String, listen: String) throws -> ServerSettings {
        let parameters = ["options=-csearch_path%3D\(schema.name)", "application_name=\(name)"]
        var url = schema.connectionString
        if url.contains("://") {
            url += (url.contains("?") ? "&" : "?") + parameters.joined(separator: "&")
        } else {
            url += " " + parameters.joined(separator: " ").replacing("%3D", with: "=")
        }
        return try ServerSettings.resolve(
            arguments: ["--database-url", url, "--listen", listen, "--node-name", name], environment: [:])
    }

    private func count(_ database: Database, _ sql: String) async throws -> Int64 {
        try await database.run("count") { connection throws(PostgresError) in
            try connection.execute(Statement(nil, "SELECT count(*) FROM \(sql)")).onlyRow.int64(0)
        }
    }

    /// Its port is another's.
    @Test func aStartThatFailsLeavesNothingRunning() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                let (first, second) = (schema.name + "_1", schema.name + "_2")
                let running = try await Assembly.start(
                    settings(schema, name: first, listen: "127.0.0.1:0"), runners: [], logger: logger)
                let refused = try settings(schema, name: second, listen: running.address)
                await #expect(throws: (any Error).self) {
                    try await Assembly.start(refused, runners: [], logger: logger)
                }
                #expect(try await count(database, "node WHERE ended_at IS NULL AND name = '\(first)'") == 1)
                #expect(
                    try await count(database, "node WHERE ended_at IS NOT NULL AND name = '\(second)'") == 1)
                // The server ends its side of a closed connection in its own time.
                while try await count(database, "pg_stat_activity WHERE application_name = '\(second)'") > 0 {
                }
                await running.run {}
                #expect(try await count(database, "node WHERE ended_at IS NULL") == 0)
            }
        }
    }
}
