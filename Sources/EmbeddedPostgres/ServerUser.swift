import Glibc

/// The user that the server runs as when this process is root. Postgres refuses to run as root.
struct ServerUser: Sendable, Equatable {
    let userID: uid_t
    let groupID: gid_t

    static var isRoot: Bool { geteuid() == 0 }

    /// Chooses the server's user; nil when this process is not root, so that the server runs as the same user.
    /// Existing data keep their owner, unless it is `nobody`: that stands for any unknown user on any host that
    /// shares a file system with this one.
    static func choose(for directory: StateDirectory) throws -> ServerUser? {
        guard isRoot else { return nil }
        let data = try FileStatus.find(directory.data)
        if let data, data.userID != 0, !isNobody(data.userID) {
            return ServerUser(userID: data.userID, groupID: data.groupID)
        }
        guard let user = SystemUser.find("postgres") else {
            throw EmbeddedPostgresError(
                .stateDirectory,
                """
                Postgres does not run as root, and there is no user postgres; create it (useradd --system postgres), \
                or run this program as a user other than root
                """)
        }
        if let data, isNobody(data.userID) {
            throw EmbeddedPostgresError(
                .stateDirectory,
                """
                \(directory.data) belongs to the user nobody, which other services use too; stop the \
                Postgres that runs there, and run: chown -R postgres: '\(directory.data)'; rm -rf '\(directory.run)'
                """)
        }
        return ServerUser(userID: user.userID, groupID: user.groupID)
    }

    private static func isNobody(_ userID: uid_t) -> Bool {
        userID == 65534 || userID == SystemUser.find("nobody")?.userID
    }

    /// Makes a folder that only the server's user may enter, or checks the one that is there.
    static func makeDirectory(_ path: String, for user: ServerUser?) throws {
        guard unsafe mkdir(path, 0o700) == 0 || errno == EEXIST else {
            throw EmbeddedPostgresError(.stateDirectory, "cannot create \(path): \(StateLock.lastError())")
        }
        let status = try FileStatus.get(path)
        guard let user, status.userID == geteuid() else {
            return try status.checkIsFolder(of: user?.userID ?? geteuid(), forbidden: 0o077)
        }
        // The folder was just made, or this program was stopped here before. No other user can have been in it.
        try status.checkIsFolder(of: geteuid(), forbidden: 0o077)
        guard unsafe lchown(path, user.userID, user.groupID) == 0 else {
            throw EmbeddedPostgresError(
                .stateDirectory,
                "cannot change the owner of \(path) to \(SystemUser.name(user.userID)): \(StateLock.lastError())"
            )
        }
    }
}
