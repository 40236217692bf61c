import Postgres

extension Statement {
    /// Limits the search path of a session to one schema, behind `pg_catalog`. Tables, types, functions and operators that
    /// others make in another schema of the path, such as `public` or one named like the role, are then never taken for
    /// those of the service. `pg_temp` comes last; if it were not named, it would come first (PostgreSQL manual, 5.9.6, and
    /// the notes of CREATE FUNCTION on security).
    ///
    /// It chooses the first schema of the path that has the service's tables. Before there are any, it chooses the first
    /// schema whose owner could change anything anyway: the service's own role, a superuser or the database's owner;
    /// else the first. The statement qualifies every name, so that it works with any path.
    static let holdSchema = Statement(
        nil,
        """
        SELECT pg_catalog.set_config(
            'search_path', pg_catalog.concat(pg_catalog.quote_ident(n.nspname), ', pg_temp'), false)
        FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS p (name, ordinal)
        JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) p.name
        JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) n.nspowner
        LEFT JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
            AND c.relname OPERATOR(pg_catalog.=) 'schema_migration'::pg_catalog.name
            AND pg_catalog.pg_get_userbyid(c.relowner) OPERATOR(pg_catalog.=) CURRENT_USER
        ORDER BY c.oid IS NULL,
            NOT (o.rolsuper OR o.rolname OPERATOR(pg_catalog.=) CURRENT_USER
                OR o.rolname OPERATOR(pg_catalog.=) 'pg_database_owner'::pg_catalog.name
                OR o.oid OPERATOR(pg_catalog.=) (
                    SELECT d.datdba FROM pg_catalog.pg_database d
                    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())),
            p.ordinal
        LIMIT 1
        """)

    /// Overrides settings of the role or the database with which the service could not keep its promises. They are settings
    /// that not every server has, that may also be stricter, or that not every role may set:
    ///
    /// - A job that was acknowledged survives a crash of the server (`synchronous_commit`).
    /// - Triggers keep what must not change (`session_replication_role`; a role that may not set it is refused).
    /// - Connections that wait for work stay open (`idle_session_timeout`).
    ///
    /// It comes after `holdSchema`, so that operators are those of `pg_catalog`.
    static let holdPromises = Statement(
        nil,
        """
        SELECT set_config(name, CASE name
            WHEN 'synchronous_commit' THEN 'on' WHEN 'session_replication_role' THEN 'origin' ELSE '0' END, false)
        FROM pg_settings
        WHERE (name = 'synchronous_commit' AND setting = 'off')
            OR (name = 'session_replication_role' AND setting <> 'origin')
            OR (name = 'idle_session_timeout' AND setting <> '0')
        """)
}
