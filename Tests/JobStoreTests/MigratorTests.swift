import JobModel
import JobStore
import Postgres
import TestDatabase
import Testing

@Suite struct MigratorTests {
    private func withDatabase(_ body: (Database) async throws -> Void) async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(connectionCount: 4) { try await body($0) }
        }
    }

    private func isSchemaError(_ body: () async throws -> Void) async -> Bool {
        do {
            try await body()
            return false
        } catch {
            if case .schema? = error as? StoreError { return true }
            return false
        }
    }

    @Test func runsOnce() async throws {
        try await withDatabase { database in
            let ran = try await Migrator.migrate(database)
            #expect(!ran.isEmpty && ran == Array(1...ran.count))
            #expect(try await Migrator.migrate(database) == [])
        }
    }

    @Test func manyAtOnce() async throws {
        try await withDatabase { database in
            let ran = try await withThrowingTaskGroup(of: [Int].self) { group in
                for _ in 0..<4 { group.addTask { try await Migrator.migrate(database) } }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(!ran.isEmpty && ran.sorted() == Array(1...ran.count))
        }
    }

    @Test func newerDatabaseIsRefused() async throws {
        try await withDatabase { database in
            _ = try await Migrator.migrate(database)
            try await database.run("newer") { connection throws(PostgresError) in
                try connection.executeScript("INSERT INTO schema_migration VALUES (9999, '9999_later')")
            }
            #expect(await isSchemaError { _ = try await Migrator.migrate(database) })
        }
    }
}
