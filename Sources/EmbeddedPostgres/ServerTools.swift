import FoundationEssentials
import Subprocess

/// The programs of one installed Postgres server.
struct ServerTools: Sendable {
    /// The oldest major version that is known to work.
    static let majorVersionMin = 14

    let binDirectory: String
    let majorVersion: Int

    struct Outcome: Sendable {
        let isSuccess: Bool
        /// The program's standard output and standard error.
        let text: String
    }

    // MARK: Finding

    /// Finds the tools for data of version `dataVersion`, or for new data. If an explicit directory is given, no
    /// other is searched.
    static func find(explicit: String?, dataVersion: Int?) async throws -> ServerTools {
        var directories: [String] = []
        if let explicit, !explicit.isEmpty {
            directories = [explicit]
        } else {
            // pg_config may belong to an installation of the client library alone. Directories without a server
            // are skipped.
            if let text = try? await run("pg_config", ["--bindir"], path: searchPath, timeout: .seconds(10))
                .text
            {
                directories.append(text.trimmingSpace)
            }
            directories += usualDirectories()
        }
        var found: [ServerTools] = []
        for directory in directories where hasServer(directory) {
            guard let version = await majorVersion(of: directory) else { continue }
            if version >= majorVersionMin, dataVersion == nil || version == dataVersion {
                return ServerTools(binDirectory: directory, majorVersion: version)
            }
            found.append(ServerTools(binDirectory: directory, majorVersion: version))
        }
        throw EmbeddedPostgresError(
            .binaries, explanation(explicit: explicit, dataVersion: dataVersion, found: found))
    }

    private static func explanation(explicit: String?, dataVersion: Int?, found: [ServerTools]) -> String {
        let installed = found.map { "\($0.majorVersion) in \($0.binDirectory)" }.joined(separator: ", ")
        if let dataVersion {
            return """
                the data was written by Postgres \(dataVersion), \
                which is not installed\(installed.isEmpty ? "" : " (but \(installed))"); \
                install it (Debian, Ubuntu: postgresql-\(dataVersion)) or move the data with pg_upgrade
                """
        }
        if !installed.isEmpty {
            return
                "Postgres \(majorVersionMin) or newer is required, but the newest that is installed is \(installed)"
        }
        if let explicit { return "there is no Postgres server (initdb, pg_ctl, postgres) in \(explicit)" }
        return """
            no Postgres server is installed; install one (Debian, Ubuntu: apt install postgresql; \
            Fedora: dnf install postgresql-server) or give a database URL
            """
    }

    /// The directories into which packages install the server, the newest version first.
    static func usualDirectories() -> [String] {
        func versions(in parent: String, prefix: String) -> [String] {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
            return names.compactMap { name in
                guard name.hasPrefix(prefix), let version = Double(name.dropFirst(prefix.count)) else {
                    return nil
                }
                return (version, "\(parent)/\(name)/bin")
            }.sorted { (a: (Double, String), b: (Double, String)) in a.0 > b.0 }.map(\.1)
        }
        return versions(in: "/usr/lib/postgresql", prefix: "") + versions(in: "/usr", prefix: "pgsql-")
            + ["/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"]
            + versions(in: "/opt/homebrew/opt", prefix: "postgresql@")
            + versions(in: "/usr/local/opt", prefix: "postgresql@")
    }

    private static func hasServer(_ directory: String) -> Bool {
        ["initdb", "pg_ctl", "postgres"].allSatisfy {
            FileManager.default.isExecutableFile(atPath: "\(directory)/\($0)")
        }
    }

    private static func majorVersion(of directory: String) async -> Int? {
        let outcome = try? await run(
            "postgres", ["--version"], path: "\(directory):\(searchPath)", timeout: .seconds(10))
        // The output is, for example, "postgres (PostgreSQL) 15.20 (Debian …)".
        guard let words = outcome?.text.split(separator: " "), words.count >= 3 else { return nil }
        return Int(words[2].prefix(while: \.isNumber))
    }

    // MARK: Running

    private static let searchPath =
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/homebrew/bin"

    func run(
        _ tool: String, _ arguments: [String], as user: ServerUser?, timeout: Duration
    ) async throws -> Outcome {
        try await Self.run(
            tool, arguments, path: "\(binDirectory):\(Self.searchPath)", as: user, timeout: timeout)
    }

    /// Runs a program in a session of its own, so that signals of the terminal do not reach it. It inherits no
    /// descriptor but those of its output, and no `PG…` variables, which would change what it does.
    private static func run(
        _ tool: String, _ arguments: [String], path: String, as user: ServerUser? = nil, timeout: Duration
    ) async throws -> Outcome {
        var options = PlatformOptions()
        options.createSession = true
        // Postgres changes to the working directory, which the server's user may not be allowed to enter.
        // setpriv(1) changes the user instead of `options.userID`, because setuid between clone and exec
        // deadlocks when another thread is being created (glibc guards its list of threads with a lock;
        // swift-subprocess issue 374 is similar).
        let script =
            if let user {
                "cd / && exec setpriv --reuid=\(user.userID) --regid=\(user.groupID) --clear-groups -- \"$0\" \"$@\""
            } else {
                "cd / && exec \"$0\" \"$@\""
            }
        return try await withThrowingTaskGroup(of: Outcome.self) { [options] group in
            group.addTask {
                do {
                    let result = try await Subprocess.run(
                        .name("sh"),
                        arguments: Arguments(["-c", script, tool] + arguments),
                        environment: .custom(["PATH": path, "LC_ALL": "C"]), platformOptions: options,
                        output: .string(limit: 1 << 20), error: .combinedWithOutput)
                    return Outcome(
                        isSuccess: result.terminationStatus.isSuccess,
                        text: result.standardOutput.trimmingSpace)
                } catch {
                    throw EmbeddedPostgresError(.tool, "cannot run \(tool)", cause: error)
                }
            }
            group.addTask {
                try await Task.sleep(for: timeout)
                throw EmbeddedPostgresError(.tool, "\(tool) did not end within \(timeout)")
            }
            // Cancelling the group kills a program that did not end in time.
            defer { group.cancelAll() }
            guard let outcome = try await group.next() else { throw CancellationError() }
            return outcome
        }
    }
}
