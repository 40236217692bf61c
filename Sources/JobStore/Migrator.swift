package import JobModel
package import Postgres

/// Brings a database's schema to this program's version: numbered SQL files, each run once, in order.
package enum Migrator {
    private struct Migration {
        var number: Int
        var name: String
        var sql: String
    }

    /// Runs the missing migrations under a lock, each in a transaction. Returns their numbers.
    ///
    /// Throws `StoreError.schema` for a database that is newer than this program.
    package static func migrate(_ database: Database) async throws(StoreError) -> [Int] {
        let ran: [Int]
        let current: Int
        do {
            (ran, current) = try await database.run("migrate", timeout: .seconds(600)) {
                connection throws(PostgresError) in
                (try runMissing(connection), try version(connection))
            }
        } catch {
            throw StoreError(error)
        }
        if let newest = migrations.last?.number, current > newest {
            throw .schema(
                "the database has schema version \(current), newer than this program's \(newest): use a newer program"
            )
        }
        return ran
    }

    /// The migrations. They are never edited after landing; a change of the schema is a new file.
    private static let migrations = [
        // The package manager replaces a leading digit by an underscore.
        Migration(number: 1, name: "0001_jobs", sql: text(PackageResources._001_jobs_sql)),
        Migration(number: 2, name: "0002_second_place", sql: text(PackageResources._002_second_place_sql)),
        Migration(
            number: 3, name: "0003_live_of_a_lane", sql: text(PackageResources._003_live_of_a_lane_sql)),
        Migration(
            number: 4, name: "0004_change_arrays", sql: text(PackageResources._004_change_arrays_sql)),
        Migration(number: 5, name: "0005_audit", sql: text(PackageResources._005_audit_sql)),
        Migration(number: 6, name: "0006_audit_source", sql: text(PackageResources._006_audit_source_sql)),
        Migration(number: 7, name: "0007_secret", sql: text(PackageResources._007_secret_sql)),
        Migration(
            number: 8, name: "0008_constraint_names", sql: text(PackageResources._008_constraint_names_sql)),
        Migration(number: 9, name: "0009_attempts", sql: text(PackageResources._009_attempts_sql)),
        Migration(
            number: 10, name: "0010_lane_user_limit", sql: text(PackageResources._010_lane_user_limit_sql)),
    ]

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    private static func version(_ connection: Connection) throws(PostgresError) -> Int {
        let exists = try connection.execute(
            Statement(nil, "SELECT to_regclass('schema_migration') IS NOT NULL AS found"))
        guard try exists.onlyRow[exists.column("found", as: Bool.self)] else { return 0 }
        let newest = try connection.execute(
            Statement(nil, "SELECT coalesce(max(number), 0)::bigint AS number FROM schema_migration"))
        let number: Int64 = try newest.onlyRow[newest.column("number")]
        return Int(number)
    }

    private static func runMissing(_ connection: Connection) throws(PostgresError) -> [Int] {
        // Only one migrator runs at a time per schema. The lock ends with each transaction, and the version is
        // read again under it.
        let lock = """
            BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(hashtext('signalbox migration ' || current_schema()));
            CREATE TABLE IF NOT EXISTS schema_migration (
                number int PRIMARY KEY, name text NOT NULL, ran_at timestamptz NOT NULL DEFAULT now());
            """
        var ran: [Int] = []
        for migration in migrations {
            try connection.executeScript(lock)
            let current = try version(connection)
            guard migration.number > current else {
                try connection.executeScript("ROLLBACK")
                continue
            }
            // Only digits and the name of our own file are put into this text, and nothing from outside.
            try connection.executeScript(
                migration.sql
                    + "\n; INSERT INTO schema_migration (number, name) VALUES (\(migration.number), '\(migration.name)'); COMMIT;"
            )
            ran.append(migration.number)
        }
        return ran
    }
}
