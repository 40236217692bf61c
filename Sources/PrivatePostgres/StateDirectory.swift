#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Where the private server keeps things:
///
///     lock                 held while a process owns the directory; says which
///     postgres/            the data directory
///     postgres.new/        a data directory that is not finished
///     run/                 the socket, and what the server says while it starts
struct StateDirectory: Sendable {
    let path: String

    var lock: String { path + "/lock" }
    var data: String { path + "/postgres" }
    var unfinishedData: String { path + "/postgres.new" }
    var run: String { path + "/run" }
    var startLog: String { run + "/start.log" }

    /// `sun_path` has 108 bytes, of which the last is NUL (unix(7); macOS: 104).
    #if canImport(Darwin)
        private static let socketPathBytesMax = 103
    #else
        private static let socketPathBytesMax = 107
    #endif

    /// Takes the explicit path; else systemd's `$STATE_DIRECTORY`; else, for root, `/var/lib/signalbox`; else the XDG
    /// state directory.
    static func path(explicit: String?, environment: [String: String], isRoot: Bool) throws -> String {
        if let explicit, !explicit.isEmpty { return explicit }
        // systemd separates several by colons (systemd.exec(5)).
        if let first = environment["STATE_DIRECTORY"]?.split(separator: ":").first { return String(first) }
        if isRoot { return "/var/lib/signalbox" }
        // A relative path is to be ignored (XDG Base Directory Specification).
        if let xdg = environment["XDG_STATE_HOME"], xdg.hasPrefix("/") { return xdg + "/signalbox" }
        if let home = environment["HOME"], home.hasPrefix("/") { return home + "/.local/state/signalbox" }
        throw PrivatePostgresError(
            .stateDirectory, "there is no home directory to keep data in; name a state directory")
    }

    /// Checks the path and makes it absolute.
    init(_ path: String) throws {
        var path = path
        if !path.hasPrefix("/") { path = FileManager.default.currentDirectoryPath + "/" + path }
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        self.path = path
        // pg_ctl hands paths to a shell inside double quotes, and libpq takes a comma for the end of a host.
        if let bad = path.first(where: { "\"$`\\,'".contains($0) || $0.isNewline }) {
            throw PrivatePostgresError(
                .stateDirectory, "the state directory must not contain the character \(bad): \(path)")
        }
        let socket = run + "/.s.PGSQL.\(PrivatePostgres.port)"
        if socket.utf8.count > Self.socketPathBytesMax {
            throw PrivatePostgresError(
                .stateDirectory,
                """
                the state directory's path is too long by \(socket.utf8.count - Self.socketPathBytesMax) bytes: \
                a Unix socket cannot be at \(socket); name a shorter one
                """)
        }
    }

    /// Makes the directory itself. Root's is open to the server's user, who owns what is inside.
    func create(isRoot: Bool) throws {
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true,
                attributes: [.posixPermissions: isRoot ? 0o755 : 0o700])
        } catch {
            throw PrivatePostgresError(
                .stateDirectory, "cannot make the state directory \(path)", cause: error)
        }
    }

    /// The major version that wrote the data; `nil` when there is none yet.
    func dataVersion() throws -> Int? {
        guard FileManager.default.fileExists(atPath: data) else { return nil }
        let file = data + "/PG_VERSION"
        guard let bytes = FileManager.default.contents(atPath: file),
            let version = Int(
                String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).first ?? "")
        else {
            throw PrivatePostgresError(
                .stateDirectory, "\(data) is not a data directory of Postgres: it has no readable PG_VERSION")
        }
        return version
    }

    /// The first line of `postmaster.pid`. The process may be long gone.
    func postmasterID() -> Int32? {
        guard let bytes = FileManager.default.contents(atPath: data + "/postmaster.pid") else { return nil }
        return Int32(String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).first ?? "")
    }

    /// What the server said while it started: the end of it.
    func startMessages() -> String {
        let bytes = FileManager.default.contents(atPath: startLog) ?? Data()
        return String(decoding: bytes.suffix(4096), as: UTF8.self).trimmingSpace
    }
}

extension String {
    var trimmingSpace: String {
        var text = self[...]
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}
