import Glibc

/// The type, owner and permissions of a folder or file. Symbolic links are not followed.
///
/// The checks throw an `EmbeddedPostgresError` that says what is wrong and what to do. They repair nothing: other
/// users may already have put something into a place in which they could write.
struct FileStatus {
    enum Kind { case folder, file, link, other }

    let path: String
    let kind: Kind
    let userID: uid_t
    let groupID: gid_t
    /// The permissions, with the sticky bit.
    let mode: mode_t
    let linkCount: Int
    /// The size in bytes.
    let size: off_t

    /// Reads the status; nil if there is nothing with this name.
    static func find(_ path: String) throws -> FileStatus? {
        var status = stat()
        if unsafe lstat(path, &status) == 0 { return FileStatus(status, path) }
        guard errno == ENOENT else {
            throw EmbeddedPostgresError(
                .stateDirectory, "cannot read the status of \(path): \(StateLock.lastError())")
        }
        return nil
    }

    /// The status of a path that must exist.
    static func get(_ path: String) throws -> FileStatus {
        guard let status = try find(path) else {
            throw EmbeddedPostgresError(.stateDirectory, "\(path) has just been removed; try again")
        }
        return status
    }

    static func of(_ descriptor: Int32, _ path: String) throws -> FileStatus {
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else {
            throw EmbeddedPostgresError(
                .stateDirectory, "cannot read the status of \(path): \(StateLock.lastError())")
        }
        return FileStatus(status, path)
    }

    private init(_ status: stat, _ path: String) {
        self.path = path
        kind =
            switch status.st_mode & S_IFMT {
            case S_IFDIR: .folder
            case S_IFREG: .file
            case S_IFLNK: .link
            default: .other
            }
        userID = status.st_uid
        groupID = status.st_gid
        mode = status.st_mode & 0o7777
        linkCount = Int(status.st_nlink)
        size = status.st_size
    }

    // MARK: Checks

    /// Checks a folder above the state directory: only root and this process' user may replace its entries. In a
    /// folder with the sticky bit, such as /tmp, users can replace only their own entries.
    func checkIsParent() throws {
        try checkKind(.folder)
        guard userID == 0 || userID == geteuid() else {
            throw refused(
                "belongs to \(SystemUser.name(userID)), who can replace its contents",
                "use a state directory all of whose parents belong to root or to \(SystemUser.name(geteuid()))"
            )
        }
        guard mode & S_ISVTX == 0 else { return }
        try checkWriters()
    }

    /// Checks the state directory: only this process' user may write in it.
    func checkIsStateDirectory() throws {
        try checkKind(.folder)
        try checkOwner(geteuid())
        try checkWriters()
    }

    /// Checks a folder of the server's user that no other user may read.
    ///
    /// - Parameter forbidden: the permissions that it must not have.
    func checkIsFolder(of owner: uid_t, forbidden: mode_t) throws {
        try checkKind(.folder)
        try checkOwner(owner)
        guard mode & forbidden == 0 else {
            throw refused(
                "has mode \(Self.octal(mode)), which allows other users to open it",
                "check that no file in it belongs to another user, then run: chmod 700 '\(path)'")
        }
    }

    /// Checks a file that only this process' user may write and that has no second hard link.
    func checkIsFile() throws {
        try checkKind(.file)
        try checkOwner(geteuid())
        guard linkCount == 1, mode & 0o022 == 0 else {
            throw refused(
                linkCount == 1
                    ? "has mode \(Self.octal(mode)), which allows other users to write it"
                    : "has a second name",
                "remove it")
        }
    }

    private func checkKind(_ wanted: Kind) throws {
        guard kind != wanted else { return }
        let name = wanted == .folder ? "a folder" : "a regular file"
        throw refused(
            kind == .link ? "is a symbolic link, which is not followed" : "is not \(name)", "remove it")
    }

    private func checkOwner(_ wanted: uid_t) throws {
        guard userID != wanted else { return }
        throw refused(
            "belongs to \(SystemUser.name(userID)), not to \(SystemUser.name(wanted))",
            "check who has created it; if you trust its contents, run: chown -R \(SystemUser.name(wanted)) '\(path)'"
        )
    }

    /// Checks that no other user may write. Write permission of the group is allowed if the user is its only
    /// member, as in systems with a group for each user.
    private func checkWriters() throws {
        let isOpen = mode & 0o002 != 0 || mode & 0o020 != 0 && !SystemGroup.isAlone(userID, in: groupID)
        guard isOpen else { return }
        throw refused(
            "has mode \(Self.octal(mode)), which allows other users to replace its contents",
            "check that no file in it belongs to another user, then run: chmod go-w '\(path)'")
    }

    private func refused(_ what: String, _ remedy: String) -> EmbeddedPostgresError {
        EmbeddedPostgresError(.stateDirectory, "\(path) \(what); \(remedy)")
    }

    private static func octal(_ mode: mode_t) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}
