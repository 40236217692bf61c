import Foundation
import Logging
import Postgres
import Testing

@testable import EmbeddedPostgres

/// One server at a time: each start waits for disks.
@Suite(.serialized, .timeLimit(.minutes(2))) struct EmbeddedPostgresTests {
    let logger = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })

    /// A directory that any user may enter, as the state directory's parent must be, and what becomes of a server in it.
    func withDirectory(_ body: (EmbeddedPostgres.Configuration) async throws -> Void) async throws {
        let directory = FileManager.default.temporaryDirectory.path + "/sb-" + UUID().uuidString.prefix(8)
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o755])
        let configuration = EmbeddedPostgres.Configuration(stateDirectory: directory + "/state of affairs")
        let result: Result<Void, any Error>
        do {
            try await body(configuration)
            result = .success(())
        } catch {
            result = .failure(error)
        }
        // Whatever the test left running.
        let state = try StateDirectory(configuration.stateDirectory ?? "")
        if state.postmasterID() != nil {
            let tools = try await ServerTools.find(explicit: nil, dataVersion: nil)
            let stopped = try await tools.run(
                "pg_ctl", ["stop", "-m", "immediate", "-D", state.data], as: ServerUser.choose(for: state),
                timeout: .seconds(60))
            #expect(stopped.isSuccess, "\(stopped.text)")
        }
        try FileManager.default.removeItem(atPath: directory)
        try result.get()
    }

    func query(_ server: EmbeddedPostgres, _ sql: String) async throws -> String? {
        let configuration = Connection.Configuration(
            connectionString: server.connectionString, applicationName: "tests", logger: logger)
        return try await Connection.once(configuration) { connection throws(PostgresError) in
            try connection.execute(Statement(nil, sql)).onlyRow[Column<String?>(index: 0)]
        }
    }

    @Test func theFirstStart() async throws {
        try await withDirectory { configuration in
            let first = try await EmbeddedPostgres.start(configuration, logger: logger)
            let process = try #require(first.postmasterID)
            #expect(try await query(first, "SELECT current_database()::text") == "signalbox")
            #expect(try await query(first, "SELECT current_setting('server_encoding')") == "UTF8")
            #expect(try await query(first, "SELECT current_setting('listen_addresses')") == "")
            #expect(try await query(first, "SELECT current_setting('fsync')") == "on")
            #expect(try await query(first, "SELECT current_setting('log_error_verbosity')") == "terse")

            // The server must be in a session of its own, and hold nothing of ours.
            #expect(getsid(process) != getsid(0))

            // A second owner is refused, and told whom to ask.
            await #expect {
                try await EmbeddedPostgres.start(configuration, logger: logger)
            } throws: {
                ($0 as? EmbeddedPostgresError)?.code == .inUse && "\($0)".contains("process \(getpid())")
            }
        }
    }

    @Test func aServerWhoseOwnerDiedIsTakenOver() async throws {
        try await withDirectory { configuration in
            let process = try await EmbeddedPostgres.start(configuration, logger: logger).postmasterID
            let server = try await EmbeddedPostgres.start(configuration, logger: logger)
            #expect(server.postmasterID == process)
            await server.stop()
            #expect(server.postmasterID == nil)
            await #expect { try await query(server, "SELECT ''") } throws: {
                ($0 as? PostgresError)?.code == .connection
            }
        }
    }

    @Test func anUnfinishedFirstStartIsBegunAnew() async throws {
        try await withDirectory { configuration in
            let state = try StateDirectory(configuration.stateDirectory ?? "")
            let user = try ServerUser.choose(for: state.made(isRoot: ServerUser.isRoot))
            try ServerUser.makeDirectory(state.unfinishedData, for: user)
            try FileManager.default.createDirectory(
                atPath: state.unfinishedData + "/base", withIntermediateDirectories: false)
            // What a link in it leads to is not what is to be removed.
            #expect(symlink(state.path, state.unfinishedData + "/link") == 0)
            let server = try await EmbeddedPostgres.start(configuration, logger: logger)
            #expect(!FileManager.default.fileExists(atPath: state.unfinishedData))
            await server.stop()
        }
    }

    @Test func aKilledServerIsStartedAgain() async throws {
        try await withDirectory { configuration in
            let server = try await EmbeddedPostgres.start(configuration, logger: logger)
            let monitor = Task { try await server.monitor() }
            let database = try Database(
                .init(
                    connection: .init(
                        connectionString: server.connectionString, applicationName: "tests", logger: logger),
                    connectionCount: 1, timeout: .seconds(60)))
            try await database.run("make") { connection throws(PostgresError) in
                try connection.executeScript("CREATE TABLE kept (id int8); INSERT INTO kept VALUES (7)")
            }
            let before = try #require(server.postmasterID)
            kill(before, SIGKILL)
            // What is in flight while the backends notice is lost; what waits is served by the next server.
            var kept: Int64?
            while kept == nil || server.postmasterID == before {
                kept = try? await database.run("read") { connection throws(PostgresError) in
                    try connection.execute(Statement(nil, "SELECT id FROM kept")).onlyRow[
                        Column<Int64>(index: 0)]
                }
            }
            #expect(kept == 7)
            await database.shutdown()
            monitor.cancel()
            try await monitor.value
            await server.stop()
        }
    }

    /// Both died at once: `postmaster.pid` names a process that is gone.
    @Test func aStalePidFileIsNoObstacle() async throws {
        try await withDirectory { configuration in
            let process = try #require(
                try await EmbeddedPostgres.start(configuration, logger: logger).postmasterID)
            kill(process, SIGKILL)
            let server = try await EmbeddedPostgres.start(configuration, logger: logger)
            #expect(server.postmasterID != process)
            await server.stop()
        }
    }

    @Test func unusableServersAreReported() async throws {
        try await withDirectory { configuration in
            let path = configuration.stateDirectory ?? ""
            let state = try StateDirectory(path)
            func code(_ configuration: EmbeddedPostgres.Configuration) async -> EmbeddedPostgresError.Code? {
                do {
                    _ = try await EmbeddedPostgres.start(configuration, logger: logger)
                    return nil
                } catch {
                    return (error as? EmbeddedPostgresError)?.code
                }
            }
            // Not a directory.
            #expect(await code(.init(stateDirectory: "/dev/null/x")) == .stateDirectory)
            // No server where it is said to be.
            #expect(await code(.init(stateDirectory: path, binDirectory: "/nonexistent")) == .binaries)
            // Data that is none.
            try ServerUser.makeDirectory(state.data, for: ServerUser.choose(for: state))
            #expect(await code(configuration) == .stateDirectory)
            // Data of a version that is not installed.
            try Data("9\n".utf8).write(to: URL(fileURLWithPath: path + "/postgres/PG_VERSION"))
            await #expect {
                try await EmbeddedPostgres.start(configuration, logger: logger)
            } throws: {
                ($0 as? EmbeddedPostgresError)?.code == .binaries && "\($0)".contains("written by Postgres 9")
            }
        }
    }
}
