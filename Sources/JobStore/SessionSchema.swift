import Postgres

extension Statement {
    /// Has a session look for tables, types, functions and operators in one schema alone, behind Postgres's own: what
    /// somebody else makes in another one that the path names, such as `public`, or in one that is called like our role, is
    /// not taken for ours. In `pg_temp` too, and that last, or it would come first (PostgreSQL manual, 5.9.6 and the
    /// notes of CREATE FUNCTION on security).
    ///
    /// It is the first schema of the path that has our tables. Before there are any: the first whose owner could do as it
    /// likes anyway, which are we, a superuser and the database's owner; else the first. That it works with any path, it
    /// calls everything by its schema.
    static let holdSchema = Statement(
        nil,
        """
        SELECT pg_catalog.set_config(
            'search_path', pg_catalog.concat(pg_catalog.quote_ident(n.nspname), ', pg_temp'), false)
        FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS p (name, place)
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
            p.place
        LIMIT 1
        """)
}
