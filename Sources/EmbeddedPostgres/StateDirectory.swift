import FoundationEssentials

import Glibc

/// The files of the embedded Postgres in the state directory:
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

    /// `sun_path` has 108 bytes, of which the last is NUL (unix(7)).
    private static let socketPathBytesMax = 107

    /// Checks the path and makes it absolute.
    init(_ path: String) throws {
        var path = path
        if !path.hasPrefix("/") { path = FileManager.default.currentDirectoryPath + "/" + path }
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        self.path = path
        // pg_ctl passes paths to a shell inside double quotes, and libpq takes a comma for the end of a host.
        if let bad = path.first(where: { "\"$`\\,'".contains($0) || $0.isNewline }) {
            throw EmbeddedPostgresError(
                .stateDirectory, "the state directory must not contain the character \(bad): \(path)")
        }
        let socket = run + "/.s.PGSQL.\(EmbeddedPostgres.port)"
        if socket.utf8.count > Self.socketPathBytesMax {
            throw EmbeddedPostgresError(
                .stateDirectory,
                """
                the state directory's path is too long by \(socket.utf8.count - Self.socketPathBytesMax) bytes: \
                a Unix socket cannot be at \(socket); choose a shorter path
                """)
        }
    }

    /// Makes the missing folders of the path, and checks all of them from `/` on, because a user that could
    /// replace one of them could substitute another state directory. Links in the path are resolved once; links
    /// in the state directory are not followed. Root's state directory can be entered by the server's user, who
    /// owns its contents.
    func made(isRoot: Bool) throws -> StateDirectory {
        let (existing, missing) = try resolved()
        let names = existing.split(separator: "/").map(String.init) + missing
        var path = "/"
        for (index, name) in names.enumerated() {
            try FileStatus.get(path).checkIsParent()
            path += (index == 0 ? "" : "/") + name
            guard index >= names.count - missing.count else { continue }
            guard unsafe mkdir(path, 0o700) == 0 || errno == EEXIST else {
                throw EmbeddedPostgresError(
                    .stateDirectory, "cannot create the state directory \(path): \(StateLock.lastError())")
            }
            // Once the folder is known to be ours, no other user can replace it, because its parent has been
            // checked.
            try FileStatus.get(path).checkIsStateDirectory()
            guard unsafe !isRoot || chmod(path, 0o755) == 0 else {
                throw EmbeddedPostgresError(
                    .stateDirectory,
                    "cannot allow the server's user to open \(path): \(StateLock.lastError())")
            }
        }
        try FileStatus.get(path).checkIsStateDirectory()
        return try StateDirectory(path)
    }

    /// The real path of the part that exists, and the names of the part that does not.
    private func resolved() throws -> (existing: String, missing: [String]) {
        let names = path.split(separator: "/").map(String.init)
        var count = names.count
        while true {
            let existing = "/" + names.prefix(count).joined(separator: "/")
            if let real = unsafe realpath(existing, nil) {
                defer { unsafe free(real) }
                let missing = names.dropFirst(count).filter { $0 != "." }
                guard !missing.contains("..") else { break }
                return (unsafe String(cString: real), missing)
            }
            let (code, reason) = (errno, StateLock.lastError())
            // A link that leads nowhere exists, so no folder is made in its place.
            guard code == ENOENT, count > 0, try FileStatus.find(existing) == nil else {
                throw EmbeddedPostgresError(
                    .stateDirectory, "cannot use the state directory \(path): \(existing): \(reason)")
            }
            count -= 1
        }
        throw EmbeddedPostgresError(
            .stateDirectory, "the state directory's path must not contain ..: \(path)")
    }

    /// The major version of Postgres that wrote the data; nil if there are no data yet.
    func dataVersion() throws -> Int? {
        guard try FileStatus.find(data) != nil else { return nil }
        guard
            let version = Int(
                Self.end(of: data + "/PG_VERSION").split(whereSeparator: \.isWhitespace).first ?? "")
        else {
            throw EmbeddedPostgresError(
                .stateDirectory, "\(data) is not a data directory of Postgres: it has no readable PG_VERSION")
        }
        return version
    }

    /// The first line of `postmaster.pid`. That process may have ended long ago.
    func postmasterID() -> Int32? {
        Int32(Self.end(of: data + "/postmaster.pid").split(whereSeparator: \.isNewline).first ?? "")
    }

    /// The end of the log that the server wrote at its start.
    func startMessages() -> String { Self.end(of: startLog).trimmingSpace }

    private static let endBytesMax = 4096

    /// The end of a file that the server's user has written. Links that this user has made are not followed.
    /// Empty if there is no such file.
    private static func end(of path: String) -> String {
        let descriptor = unsafe open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        guard let status = try? FileStatus.of(descriptor, path), status.kind == .file, status.linkCount == 1
        else {
            return ""
        }
        var bytes = [UInt8](repeating: 0, count: endBytesMax)
        let from = max(0, status.size - off_t(endBytesMax))
        let count = unsafe pread(descriptor, &bytes, bytes.count, from)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
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
