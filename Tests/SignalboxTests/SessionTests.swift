import Foundation
import JobStore
import Logging
import Postgres
import TestDatabase
import Testing

@testable import Signalbox

/// What another user of the database makes is not taken for ours.
@Suite(.timeLimit(.minutes(3))) struct SessionTests {
    private let logger = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

    /// A database of its own, whose owner is the service's role, and somebody else who may make things in it.
    private struct Shared {
        let name: String
        let serverString: String

        var owner: String { "owner_" + name }
        var other: String { "other_" + name }

        func connectionString(_ user: String? = nil, database: String? = nil, path: String? = nil) -> String {
            var parameters = ["dbname=\(database ?? name)"]
            if let user { parameters.append("user=\(user)") }
            let isURL = serverString.contains("://")
            if let path { parameters.append("options=-csearch_path\(isURL ? "%3D" : "=")\(path)") }
            guard isURL else { return serverString + " " + parameters.joined(separator: " ") }
            return serverString + (serverString.contains("?") ? "&" : "?") + parameters.joined(separator: "&")
        }

        func script(_ sql: String, as user: String? = nil, in database: String? = nil) async throws {
            let configuration = Connection.Configuration(
                connectionString: connectionString(user, database: database), applicationName: "tests",
                logger: Logger(label: "tests"))
            try await Connection.once(configuration) { connection throws(PostgresError) in
                try connection.executeScript(sql)
            }
        }
    }

    private func withShared(_ body: (Shared) async throws -> Void) async throws {
        let name = "s_" + UUID().uuidString.lowercased().replacing("-", with: "").prefix(12)
        let shared = Shared(name: name, serverString: try await TestDatabase.connectionString)
        for role in [shared.owner, shared.other] {
            try await shared.script("CREATE ROLE \(role) LOGIN", in: "postgres")
        }
        try await shared.script("CREATE DATABASE \(name) OWNER \(shared.owner)", in: "postgres")
        try await shared.script(
            """
            GRANT CREATE ON DATABASE \(name) TO \(shared.other);
            GRANT CREATE ON SCHEMA public TO \(shared.other), \(shared.owner);
            """)
        let result: Result<Void, any Error>
        do {
            try await body(shared)
            result = .success(())
        } catch {
            result = .failure(error)
        }
        try await shared.script("DROP DATABASE \(name) WITH (FORCE)", in: "postgres")
        for role in [shared.owner, shared.other] {
            try await shared.script("DROP ROLE \(role)", in: "postgres")
        }
        try result.get()
    }

    private func withDatabase<R: Sendable>(
        _ connectionString: String, _ body: (Database) async throws -> R
    ) async throws -> R {
        let database = try Database(
            .init(
                connection: Assembly.connection(connectionString, logger: logger), connectionCount: 1,
                timeout: .seconds(30)))
        do {
            let value = try await body(database)
            await database.shutdown()
            return value
        } catch {
            await database.shutdown()
            throw error
        }
    }

    private func text(_ sql: String, _ database: Database) async throws -> String {
        try await database.run("text") { connection throws(PostgresError) in
            try connection.execute(Statement(nil, sql)).onlyRow.string(0)
        }
    }

    private static let schemaOfJobs = """
        SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'job'::regclass
        """

    /// Which comes first in a path of Postgres's own making.
    @Test func aSchemaCalledLikeTheRoleIsNotOurs() async throws {
        try await withShared { shared in
            let ran = try await withDatabase(shared.connectionString(shared.owner)) {
                try await Migrator.migrate($0)
            }
            #expect(!ran.isEmpty)
            try await shared.script(
                """
                CREATE SCHEMA \(shared.owner);
                GRANT ALL ON SCHEMA \(shared.owner) TO \(shared.owner);
                CREATE TABLE \(shared.owner).schema_migration (number int, name text);
                CREATE TABLE \(shared.owner).job (number bigint);
                GRANT ALL ON ALL TABLES IN SCHEMA \(shared.owner) TO \(shared.owner);
                """, as: shared.other)
            try await withDatabase(shared.connectionString(shared.owner)) { database async throws in
                #expect(try await text(Self.schemaOfJobs, database) == "public")
                #expect(try await text("SELECT current_schema()::text", database) == "public")
                #expect(try await Migrator.migrate(database).isEmpty)
            }
        }
    }

    /// Nor is it before there are any tables.
    @Test func aFirstStartUsesASchemaOfNoOtherRole() async throws {
        try await withShared { shared in
            try await shared.script(
                """
                CREATE SCHEMA \(shared.owner);
                GRANT ALL ON SCHEMA \(shared.owner) TO \(shared.owner);
                """, as: shared.other)
            try await withDatabase(shared.connectionString(shared.owner)) { database in
                _ = try await Migrator.migrate(database)
                #expect(try await text(Self.schemaOfJobs, database) == "public")
            }
            // Where there is no other place it is the one that was named.
            try await withDatabase(shared.connectionString(shared.owner, path: shared.owner)) { database in
                _ = try await Migrator.migrate(database)
                #expect(try await text(Self.schemaOfJobs, database) == shared.owner)
            }
        }
    }

    @Test func whatIsInPublicOrTemporaryIsNotLookedAt() async throws {
        try await withShared { shared in
            try await shared.script("CREATE SCHEMA jobs", as: shared.owner)
            // For an argument of this type it fits better than what Postgres has.
            try await shared.script(
                """
                CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'planted' $$;
                CREATE FUNCTION public.planted(text, varchar) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
                CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = varchar, FUNCTION = public.planted);
                CREATE TABLE public.finished_job (number bigint);
                """, as: shared.other)
            let path = shared.connectionString(shared.owner, path: "jobs,public")
            try await withDatabase(path) { database in
                _ = try await Migrator.migrate(database)
                #expect(try await text(Self.schemaOfJobs, database) == "jobs")
                #expect(try await text("SELECT lower('A'::varchar)", database) == "a")
                #expect(try await text("SELECT ('a'::text = 'b'::varchar)::text", database) == "false")
                #expect(
                    try await text("SELECT coalesce(to_regclass('finished_job')::text, '')", database) == "")
                // One that a session of a pooler has left behind.
                try await database.run("temporary") { connection throws(PostgresError) in
                    try connection.executeScript("CREATE TEMPORARY TABLE job (number bigint)")
                }
                #expect(try await text(Self.schemaOfJobs, database) == "jobs")
                #expect(try await Migrator.migrate(database).isEmpty)
            }
        }
    }
}
