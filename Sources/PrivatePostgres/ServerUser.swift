#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Whom the server runs as when we are root, which Postgres refuses to be.
struct ServerUser: Sendable, Equatable {
    let userID: uid_t
    let groupID: gid_t

    static var isRoot: Bool { geteuid() == 0 }

    /// `nil` when we are not root: the server is then ours. Data that exists keeps its owner.
    static func choose(for directory: StateDirectory) throws -> ServerUser? {
        guard isRoot else { return nil }
        var status = stat()
        if unsafe stat(directory.data, &status) == 0, status.st_uid != 0 {
            return ServerUser(userID: status.st_uid, groupID: status.st_gid)
        }
        guard let user = named("postgres") ?? named("nobody") else {
            throw PrivatePostgresError(
                .stateDirectory, "Postgres does not run as root, and there is no user postgres or nobody")
        }
        return user
    }

    /// Looks in the system's user database.
    private static func named(_ name: String) -> ServerUser? {
        var entry = unsafe passwd()
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16384) { buffer in
            var found: UnsafeMutablePointer<passwd>?
            guard unsafe getpwnam_r(name, &entry, buffer.baseAddress!, buffer.count, &found) == 0,
                unsafe found != nil
            else { return nil }
            return unsafe ServerUser(userID: entry.pw_uid, groupID: entry.pw_gid)
        }
    }

    /// Makes a directory that only the server's user may enter; leaves one that exists, but for its owner.
    static func makeDirectory(_ path: String, for user: ServerUser?) throws {
        let made = unsafe mkdir(path, 0o700)
        guard made == 0 || errno == EEXIST else {
            throw PrivatePostgresError(.stateDirectory, "cannot make \(path): \(StateLock.lastError())")
        }
        // The user of the server cannot put a link in our own directory, but lchown costs nothing.
        if let user, unsafe lchown(path, user.userID, user.groupID) != 0 {
            throw PrivatePostgresError(
                .stateDirectory, "cannot give \(path) to user \(user.userID): \(StateLock.lastError())")
        }
    }
}
