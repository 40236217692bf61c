package import Postgres

/// Brings a schema back to an earlier state while servers use it, as a restore of a backup or a failover to a standby that
/// lags behind does. Their connections stay open, which is harder on them than a real restore.
extension TestSchema {
    private var copy: String { name + "_copy" }

    var drop: String { "DROP SCHEMA \(name) CASCADE; DROP SCHEMA IF EXISTS \(copy) CASCADE" }

    /// Keeps what the schema has now, instead of an earlier copy.
    package func keep(_ database: Database) async throws {
        try await run(
            """
            DROP SCHEMA IF EXISTS \(copy) CASCADE;
            CREATE SCHEMA \(copy);
            DO $$ DECLARE tables text; t text; BEGIN
                SELECT string_agg(format('\(name).%I', tablename), ', ' ORDER BY tablename) INTO tables
                FROM pg_tables WHERE schemaname = '\(name)';
                EXECUTE 'LOCK TABLE ' || tables || ' IN SHARE MODE';
                FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = '\(name)' LOOP
                    EXECUTE format('CREATE TABLE \(copy).%I AS TABLE \(name).%I', t, t);
                END LOOP;
                CREATE TABLE \(copy).sequences (name text, value bigint, is_called boolean);
                FOR t IN SELECT sequencename FROM pg_sequences WHERE schemaname = '\(name)' LOOP
                    EXECUTE format(
                        'INSERT INTO \(copy).sequences SELECT %L, last_value, is_called FROM \(name).%I', t, t);
                END LOOP;
            END $$
            """, on: database)
    }

    /// Forgets everything since `keep`, also how far the sequences had come.
    package func restore(_ database: Database) async throws {
        try await run(
            """
            DO $$ DECLARE tables text; t text; BEGIN
                -- Without foreign keys and triggers.
                SET LOCAL session_replication_role = replica;
                SELECT string_agg(format('\(name).%I', tablename), ', ' ORDER BY tablename) INTO tables
                FROM pg_tables WHERE schemaname = '\(name)';
                EXECUTE 'LOCK TABLE ' || tables || ' IN ACCESS EXCLUSIVE MODE';
                EXECUTE 'TRUNCATE ' || tables;
                FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = '\(name)' LOOP
                    EXECUTE format(
                        'INSERT INTO \(name).%I OVERRIDING SYSTEM VALUE SELECT * FROM \(copy).%I', t, t);
                END LOOP;
                PERFORM setval(format('\(name).%I', s.name)::regclass, value, is_called) FROM \(copy).sequences s;
            END $$
            """, on: database)
    }

    private func run(_ sql: String, on database: Database) async throws {
        while true {
            do {
                return try await database.run("copy") { connection throws(PostgresError) in
                    try connection.executeScript(sql)
                }
            } catch  where error.isRetryable {
                // A statement of a server held locks in another order.
            }
        }
    }
}
