import Glibc

/// The server's files of access rules. They let in only the user that this process runs as, through the socket,
/// as one of the two roles (PostgreSQL manual, 21.1, 21.2 and 21.9). They are written at each start, so that
/// neither the rules of an older version, which trusted every user, nor later edits are in force.
enum AccessFiles {
    private static let rules = """
        # Written by signalbox at each start. Only the users in pg_ident.conf may connect, by the socket.
        local all all peer map=signalbox

        """

    private static func map(_ name: String) -> String {
        """
        # Written by signalbox at each start: the user that it runs as, and its roles.
        signalbox "\(name)" \(EmbeddedPostgres.superuser)
        signalbox "\(name)" \(EmbeddedPostgres.role)

        """
    }

    /// - Parameter user: the owner of the data; nil: this process' user.
    static func write(in data: String, for user: ServerUser?) throws {
        guard let name = SystemUser.knownName(geteuid()) else {
            throw EmbeddedPostgresError(
                .stateDirectory,
                "user \(geteuid()) has no name in the system's user database, which Postgres needs to identify it; "
                    + "add the user")
        }
        // Postgres would take a name that begins with a slash for a pattern.
        guard !name.hasPrefix("/"), !name.contains(where: { $0 == "\"" || $0.isNewline }) else {
            throw EmbeddedPostgresError(
                .stateDirectory,
                "Postgres does not accept the user name \(name); run this program as another user")
        }
        try replace(data + "/pg_ident.conf", with: map(name), for: user)
        try replace(data + "/pg_hba.conf", with: rules, for: user)
    }

    /// Replaces whatever has this name by a new file, so that nothing is written through a link.
    private static func replace(_ path: String, with text: String, for user: ServerUser?) throws {
        let new = path + ".new"
        func failed(_ what: String) -> EmbeddedPostgresError {
            EmbeddedPostgresError(.stateDirectory, "cannot \(what) \(new): \(StateLock.lastError())")
        }
        unsafe unlink(new)
        let descriptor = unsafe open(new, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failed("make") }
        defer { close(descriptor) }
        let bytes = [UInt8](text.utf8)
        guard unsafe pwrite(descriptor, bytes, bytes.count, 0) == bytes.count else { throw failed("write") }
        if let user, fchown(descriptor, user.userID, user.groupID) != 0 {
            throw failed("change the owner of")
        }
        guard fsync(descriptor) == 0 else { throw failed("write") }
        guard unsafe rename(new, path) == 0 else { throw failed("rename") }
    }
}
