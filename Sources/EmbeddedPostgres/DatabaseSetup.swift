import Postgres

/// The service's role and its database, made as the superuser. Data of a version in which the service was the superuser
/// are handed over to the role; that version can still use them, since a superuser may use all.
enum DatabaseSetup {
    /// The database is the service's, and so is what it may have put in it: nothing of that is to be called by a superuser.
    static let sessionSettings = ["search_path": "pg_catalog, pg_temp"]

    /// Does what is left to be done; most often that is nothing.
    static func run(
        _ connection: (_ database: String) -> Connection.Configuration
    ) async throws(PostgresError) {
        try await Connection.once(connection("postgres")) { connection throws(PostgresError) in
            // A server that has survived its owner may have begun with another version's rules.
            try connection.executeScript("SELECT pg_reload_conf()")
            if try connection.execute(findRole, named(EmbeddedPostgres.role)).isEmpty {
                try connection.executeScript("CREATE ROLE \(EmbeddedPostgres.role) LOGIN")
            }
            try connection.executeScript(
                "ALTER ROLE \(EmbeddedPostgres.role) LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            )
            // Not in a transaction, which CREATE DATABASE refuses.
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

    /// REASSIGN OWNED refuses the role that initdb has made. A sequence goes with the column that it belongs to, and an
    /// extension's objects are the extension's.
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
