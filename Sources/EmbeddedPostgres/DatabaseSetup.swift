import Postgres

/// Makes the service's role and its database, as the superuser. Data of a version in which the service was the
/// superuser are handed over to the role. That version can still use them, because a superuser may use
/// everything.
enum DatabaseSetup {
    /// The superuser works in a database of the service, and must not call functions that the service may have
    /// put there.
    static let sessionSettings = ["search_path": "pg_catalog, pg_temp"]

    /// Does the steps that are not done yet; usually there are none.
    static func run(
        _ connection: (_ database: String) -> Connection.Configuration
    ) async throws(PostgresError) {
        try await Connection.once(connection("postgres")) { connection throws(PostgresError) in
            // A server that has outlived the process that started it may use the rules of another version.
            try connection.executeScript("SELECT pg_reload_conf()")
            if try connection.execute(findRole, named(EmbeddedPostgres.role)).isEmpty {
                try connection.executeScript("CREATE ROLE \(EmbeddedPostgres.role) LOGIN")
            }
            try connection.executeScript(
                "ALTER ROLE \(EmbeddedPostgres.role) LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            )
            // CREATE DATABASE refuses to run in a transaction.
            if try connection.execute(findDatabase, named(EmbeddedPostgres.database)).isEmpty {
                try connection.executeScript("CREATE DATABASE \(EmbeddedPostgres.database)")
            }
            try connection.executeScript(
                "ALTER DATABASE \(EmbeddedPostgres.database) OWNER TO \(EmbeddedPostgres.role)")
        }
        try await Connection.once(connection(EmbeddedPostgres.database)) {
            connection throws(PostgresError) in
            try connection.executeScript(handOver)
        }
    }

    private static func named(_ name: String) -> Parameters { Parameters { $0.append(name) } }

    private static let findRole = Statement(nil, "SELECT 1 FROM pg_roles WHERE rolname = $1")
    private static let findDatabase = Statement(nil, "SELECT 1 FROM pg_database WHERE datname = $1")

    /// Hands the objects of older data over, one by one, because REASSIGN OWNED refuses the role that initdb has
    /// made. A sequence follows its column, and the objects of an extension stay with it.
    private static let handOver = """
        ALTER SCHEMA public OWNER TO \(EmbeddedPostgres.role);
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        DO $$
        DECLARE
            former CONSTANT regrole := '\(EmbeddedPostgres.superuser)'::regrole;
            command text;
        BEGIN
            FOR command IN
                SELECT format('ALTER TABLE %s OWNER TO %I', c.oid::regclass, '\(EmbeddedPostgres.role)')
                FROM pg_class c
                WHERE c.relnamespace = 'public'::regnamespace AND c.relowner = former
                    AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
                    AND NOT EXISTS (
                        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                            AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i')))
                UNION ALL
                SELECT format('ALTER TYPE %s OWNER TO %I', t.oid::regtype, '\(EmbeddedPostgres.role)')
                FROM pg_type t
                WHERE t.typnamespace = 'public'::regnamespace AND t.typowner = former
                    AND t.typtype IN ('e', 'd', 'r')
                    AND NOT EXISTS (
                        SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
                UNION ALL
                SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, '\(EmbeddedPostgres.role)')
                FROM pg_proc p
                WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = former
                    AND NOT EXISTS (
                        SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
            LOOP
                EXECUTE command;
            END LOOP;
        END $$;
        """
}
