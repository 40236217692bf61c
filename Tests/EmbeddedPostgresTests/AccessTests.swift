import Foundation
import Postgres
import Testing

@testable import EmbeddedPostgres

/// Who may connect, and as whom.
extension EmbeddedPostgresTests {
    /// With psql, as another user of the system; nil: ours.
    private func psql(
        _ state: StateDirectory, role: String, database: String = "signalbox", as user: ServerUser?
    ) async throws -> ServerTools.Outcome {
        let tools = try await ServerTools.find(explicit: nil, dataVersion: nil)
        let url = "host='\(state.run)' port=\(EmbeddedPostgres.port) user=\(role) dbname=\(database)"
        return try await tools.run(
            "psql", [url, "-AtXqc", "SELECT current_user"], as: user, timeout: .seconds(20))
    }

    private func withServer(
        _ body: (_ server: EmbeddedPostgres, _ state: StateDirectory) async throws -> Void
    ) async throws {
        try await withDirectory { configuration in
            try await start(configuration) {
                try await body($0, try StateDirectory(configuration.stateDirectory ?? ""))
            }
        }
    }

    private func start(
        _ configuration: EmbeddedPostgres.Configuration, _ body: (EmbeddedPostgres) async throws -> Void
    ) async throws {
        let server = try await EmbeddedPostgres.start(configuration, logger: logger)
        try await body(server)
        await server.stop()
    }

    @Test func theServiceIsNoSuperuser() async throws {
        try await withServer { server, _ in
            let rights = """
                SELECT concat_ws(' ', rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls)
                FROM pg_roles WHERE rolname = current_user
                """
            #expect(try await query(server, rights) == "f f f f f")
            #expect(
                try await query(
                    server, "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
                )
                    == EmbeddedPostgres.role)
            for forbidden in [
                "COPY (SELECT 1) TO PROGRAM 'true'", "CREATE ROLE other", "CREATE DATABASE other",
                "SET ROLE \(EmbeddedPostgres.superuser)", "SELECT pg_read_file('PG_VERSION')",
            ] {
                await #expect {
                    try await query(server, forbidden)
                } throws: {
                    ($0 as? PostgresError)?.sqlState == "42501"
                }
            }
            // What the service needs.
            let setup = """
                CREATE SCHEMA other; CREATE TABLE t (id int8 GENERATED ALWAYS AS IDENTITY);
                CREATE TYPE e AS ENUM ('a'); CREATE VIEW v AS SELECT * FROM t;
                CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                CREATE TRIGGER tr AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION f();
                """
            try await script(server.connectionString, setup)
        }
    }

    private func script(_ connectionString: String, _ sql: String) async throws {
        try await Connection.once(
            .init(connectionString: connectionString, applicationName: "tests", logger: logger)
        ) { connection throws(PostgresError) in
            try connection.executeScript(sql)
        }
    }

    @Test func onlyItsOwnerReachesTheSocket() async throws {
        try await withServer { server, state in
            let owner = try ServerUser.choose(for: state)?.userID ?? geteuid()
            let socket = try FileStatus.get(state.run + "/.s.PGSQL.\(EmbeddedPostgres.port)")
            #expect(socket.mode == 0o700 && socket.userID == owner)
            let run = try FileStatus.get(state.run)
            #expect(run.mode == 0o700 && run.userID == owner)
            for file in ["pg_hba.conf", "pg_ident.conf"] {
                let status = try FileStatus.get(state.data + "/" + file)
                #expect(status.mode == 0o600 && status.userID == owner)
            }
            #expect(try await query(server, "SELECT current_setting('listen_addresses')") == "")
            #expect(try await psql(state, role: EmbeddedPostgres.role, as: nil).text == EmbeddedPostgres.role)
            // There is no map to any other role.
            let other = try await psql(state, role: "pg_monitor", as: nil)
            #expect(!other.isSuccess && other.text.contains("Peer authentication failed"))
        }
    }

    /// Even where the socket's folder is open.
    @Test(.enabled(if: ServerUser.isRoot)) func otherUsersAreRefused() async throws {
        try await withServer { _, state in
            let nobody = ServerUser(userID: 65_534, groupID: 65_534)
            let outside = try await psql(state, role: EmbeddedPostgres.role, as: nobody)
            #expect(!outside.isSuccess && outside.text.contains("Permission denied"))
            #expect(chmod(state.run, 0o755) == 0)
            #expect(chmod(state.run + "/.s.PGSQL.\(EmbeddedPostgres.port)", 0o777) == 0)
            let server = try #require(try ServerUser.choose(for: state))
            for user in [nobody, server] {
                for role in [EmbeddedPostgres.role, EmbeddedPostgres.superuser, "postgres", "nobody"] {
                    let outcome = try await psql(state, role: role, as: user)
                    #expect(
                        !outcome.isSuccess && outcome.text.contains("Peer authentication failed"), "\(role)")
                }
            }
            #expect(try await psql(state, role: EmbeddedPostgres.superuser, as: nil).isSuccess)
            #expect(chmod(state.run, 0o700) == 0)
        }
    }

    // MARK: Data of a version in which the service was the superuser and everybody was trusted

    private static let former = """
        CREATE TYPE kind AS ENUM ('a', 'b'); CREATE DOMAIN small AS int CHECK (VALUE < 10);
        CREATE TABLE kept (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, serial serial, kind kind, small small);
        CREATE SEQUENCE token; CREATE VIEW seen AS SELECT id FROM kept;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE EXCEPTION ''written once''; END';
        CREATE TRIGGER once BEFORE UPDATE ON kept FOR EACH STATEMENT EXECUTE FUNCTION refuse();
        INSERT INTO kept (kind, small) VALUES ('a', 7);
        """

    /// The server runs, as it was left.
    private func withFormerServer(
        _ body: (
            _ configuration: EmbeddedPostgres.Configuration, _ state: StateDirectory, _ former: String
        ) async throws -> Void
    ) async throws {
        try await withDirectory { configuration in
            let state = try StateDirectory(configuration.stateDirectory ?? "").made(isRoot: ServerUser.isRoot)
            let tools = try await ServerTools.find(explicit: nil, dataVersion: nil)
            let user = try ServerUser.choose(for: state)
            try ServerUser.makeDirectory(state.data, for: user)
            try ServerUser.makeDirectory(state.run, for: user)
            for (tool, arguments) in [
                (
                    "initdb",
                    ["-D", state.data, "-U", "signalbox", "--auth-local=trust", "--auth-host=reject"]
                ),
                (
                    "pg_ctl",
                    [
                        "start", "--wait", "-D", state.data, "-l", state.startLog, "-o",
                        "-k ../run -p \(EmbeddedPostgres.port) -c listen_addresses=",
                    ]
                ),
            ] {
                let outcome = try await tools.run(tool, arguments, as: user, timeout: .seconds(60))
                #expect(outcome.isSuccess, "\(outcome.text)")
            }
            let former = "host='\(state.run)' port=\(EmbeddedPostgres.port) user=signalbox dbname="
            try await script(former + "postgres", "CREATE DATABASE signalbox")
            try await script(former + "signalbox", Self.former)
            try await body(configuration, state, former + "signalbox")
        }
    }

    @Test func formerDataAreHandedOver() async throws {
        try await withFormerServer { configuration, state, former in
            let others = """
                SELECT concat_ws(' ',
                    (SELECT count(*) FROM pg_class
                    WHERE relnamespace = 'public'::regnamespace AND relowner <> current_user::regrole),
                    (SELECT count(*) FROM pg_type
                    WHERE typnamespace = 'public'::regnamespace AND typowner <> current_user::regrole),
                    (SELECT count(*) FROM pg_proc
                    WHERE pronamespace = 'public'::regnamespace AND proowner <> current_user::regrole))
                """
            let process = state.postmasterID()
            try await start(configuration) { server in
                #expect(server.postmasterID == process)
                #expect(try await query(server, "SELECT current_user::text") == EmbeddedPostgres.role)
                #expect(try await query(server, others) == "0 0 0")
                let rules = try String(contentsOfFile: state.data + "/pg_hba.conf", encoding: .utf8)
                #expect(!rules.contains("trust") && !rules.contains("host "))
                // The server has read them, though it was not started again.
                guard let user = try ServerUser.choose(for: state) else { return }
                let outcome = try await psql(state, role: "signalbox", as: user)
                #expect(!outcome.isSuccess && outcome.text.contains("Peer authentication failed"))
            }
            try await start(configuration) { server in
                // As a migration would, and a service.
                try await script(
                    server.connectionString,
                    """
                    ALTER TABLE kept ADD COLUMN more text; CREATE INDEX ON kept (kind);
                    ALTER TYPE kind ADD VALUE 'c'; ALTER DOMAIN small SET DEFAULT 1;
                    CREATE OR REPLACE VIEW seen AS SELECT id, more FROM kept;
                    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                        'BEGIN RAISE EXCEPTION ''written once''; END';
                    INSERT INTO kept (kind, more) VALUES ('b', nextval('token')::text);
                    """)
                #expect(try await query(server, "SELECT count(*)::text FROM seen") == "2")
                // The former version connects as it did, and can use all there is.
                try await script(
                    former,
                    "CREATE TABLE later (id int); INSERT INTO kept (kind) SELECT kind FROM kept LIMIT 1")
            }
            // What it has made is handed over the next time.
            try await start(configuration) { server async throws in
                #expect(try await query(server, others) == "0 0 0")
                #expect(try await query(server, "SELECT count(*)::text FROM kept") == "3")
            }
        }
    }

    /// Links that the server's user has put where root writes or reads.
    @Test func linksInTheDataAreNotFollowed() async throws {
        try await withDirectory { configuration in
            let state = try StateDirectory(configuration.stateDirectory ?? "")
            await (try EmbeddedPostgres.start(configuration, logger: logger)).stop()
            let precious = state.path + "/precious"
            try Data("kept".utf8).write(to: URL(fileURLWithPath: precious))
            for path in ["/pg_hba.conf", "/pg_hba.conf.new", "/pg_ident.conf"].map({ state.data + $0 }) {
                unlink(path)
                #expect(symlink(precious, path) == 0)
            }
            unlink(state.startLog)
            #expect(symlink(precious, state.startLog) == 0)
            #expect(state.startMessages() == "")
            let server = try await EmbeddedPostgres.start(configuration, logger: logger)
            #expect(FileManager.default.contents(atPath: precious) == Data("kept".utf8))
            #expect(try FileStatus.get(state.data + "/pg_hba.conf").kind == .file)
            await server.stop()
        }
    }
}
