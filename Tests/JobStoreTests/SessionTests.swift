import JobModel
import Postgres
import TestDatabase
import Testing

@testable import JobStore

/// The service does not rely on the settings of its role or its database.
@Suite struct SessionTests {
    @Test func settingsOfTheRoleAreOverridden() async throws {
        try await TestDatabase.withSchema { schema in
            let bad = [
                "default_transaction_isolation=serializable", "lock_timeout=1", "synchronous_commit=off",
                "session_replication_role=replica", "idle_session_timeout=1000",
                "idle_in_transaction_session_timeout=0",
            ]
            var configuration = schema.connectionConfiguration()
            let options = bad.map { "-c \($0)" }.joined(separator: " ")
            if configuration.connectionString.contains("://") {
                let encoded = options.replacing("=", with: "%3D").replacing(" ", with: "%20")
                configuration.connectionString +=
                    (configuration.connectionString.contains("?") ? "&" : "?") + "options=\(encoded)"
            } else {
                configuration.connectionString += " options='\(options)'"
            }
            let names = bad.map { String($0.prefix { $0 != "=" }) }
            func settings() throws -> [String] {
                let connection = try Connection(configuration)
                return try names.map {
                    try connection.execute(Statement(nil, "SHOW \($0)")).onlyRow.string(0)
                }
            }
            let before = try settings()
            #expect(before == ["serializable", "1ms", "off", "replica", "1s", "0"])
            configuration.sessionSettings.merge(JobStore.sessionSettings) { $1 }
            configuration.sessionStatements = JobStore.sessionStatements
            let after = try settings()
            #expect(after == ["read committed", "5s", "on", "origin", "0", "5s"])
        }
    }

    /// A stricter setting than the service needs is kept.
    @Test func aStricterCommitIsKept() async throws {
        try await TestDatabase.withSchema { schema in
            var configuration = schema.connectionConfiguration()
            configuration.sessionSettings["synchronous_commit"] = "remote_apply"
            configuration.sessionStatements = JobStore.sessionStatements
            let connection = try Connection(configuration)
            let setting = try connection.execute(Statement(nil, "SHOW synchronous_commit")).onlyRow.string(0)
            #expect(setting == "remote_apply")
        }
    }

    /// A standby, or a server that its operator has made read-only.
    @Test func aReadOnlyDatabaseIsUnavailable() async throws {
        try await Bench.with(connections: 1) { bench in
            let run = try await bench.start()
            try await bench.script("SET default_transaction_read_only = on")
            func isUnavailable(_ body: () async throws -> Void) async -> Bool {
                do {
                    try await body()
                    return false
                } catch {
                    if case StoreError.unavailable = error { return true }
                    return false
                }
            }
            #expect(await isUnavailable { try await bench.enqueue() })
            #expect(await isUnavailable { try await bench.store.save(checkpoint: [1], of: run.fence) })
            #expect(await isUnavailable { try await bench.finish(run, .success) })
            try await bench.script("SET default_transaction_read_only = off")
            try await bench.store.save(checkpoint: [1], of: run.fence)
            #expect(try await bench.finish(run, .success) == .written)
        }
    }
}
