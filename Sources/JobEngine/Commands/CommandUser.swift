package import Glibc

/// The user that a command runs as, from the system's user database.
package struct CommandUser: Sendable, Hashable {
    package let userID: uid_t
    package let groupID: gid_t
    /// The groups of the user and `groupID`, as login would give them. Not used where user and group are the
    /// server's, which keeps its own.
    package let supplementaryGroups: [gid_t]
    /// Nil: a number without an entry in the database.
    package let name: String?
    package let home: String

    /// Groups of one user that are looked at; Linux knows no more (NGROUPS_MAX).
    private static let groupsMax: Int32 = 65_536
    /// Bytes of an entry of the database.
    private static let entryBytesMax = 1 << 20

    package init(
        userID: uid_t, groupID: gid_t, supplementaryGroups: [gid_t], name: String?, home: String
    ) {
        self.userID = userID
        self.groupID = groupID
        self.supplementaryGroups = supplementaryGroups
        self.name = name
        self.home = home
    }

    /// Whether a command of this user has the user and group of this process, so that nothing has to change.
    package var isCurrentUser: Bool { userID == geteuid() && groupID == getegid() }

    /// Looks up a user and a group, each a name or a number. Without a group: the user's primary one. It blocks, as
    /// the database may be on another machine.
    package static func lookUp(user: String, group: String?) throws(CommandUserError) -> CommandUser {
        guard let entry = try userEntry(user) else {
            guard let userID = number(user) else { throw CommandUserError("there is no user '\(user)'") }
            guard let group else {
                throw CommandUserError(
                    "user \(user) has no entry in the system's user database: give its group too")
            }
            // Container engines do the same for such a user.
            return CommandUser(
                userID: userID, groupID: try groupID(group), supplementaryGroups: [], name: nil, home: "/")
        }
        let groupID = try group.map(groupID) ?? entry.groupID
        return CommandUser(
            userID: entry.userID, groupID: groupID,
            supplementaryGroups: try groups(of: entry.name, and: groupID), name: entry.name,
            home: entry.home.isEmpty ? "/" : entry.home)
    }

    private struct Entry {
        var name: String
        var userID: uid_t
        var groupID: gid_t
        var home: String
    }

    /// The largest number means "unchanged" to the system calls, so it is refused.
    private static func number(_ text: String) -> UInt32? {
        guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let number = UInt32(text), number != .max
        else { return nil }
        return number
    }

    /// A name that consists of digits comes before the number, as with chown(1).
    private static func userEntry(_ user: String) throws(CommandUserError) -> Entry? {
        let named = try userEntry { getpwnam_r(user, $0, $1, $2, $3) }
        if let named { return named }
        guard let number = number(user) else { return nil }
        return try userEntry { getpwuid_r(number, $0, $1, $2, $3) }
    }

    private static func userEntry(
        _ find: (
            UnsafeMutablePointer<passwd>, UnsafeMutablePointer<CChar>, Int,
            UnsafeMutablePointer<UnsafeMutablePointer<passwd>?>
        ) -> Int32
    ) throws(CommandUserError) -> Entry? {
        var record = passwd()
        return try withBuffer { buffer in
            var found: UnsafeMutablePointer<passwd>?
            let code = find(&record, buffer.baseAddress!, buffer.count, &found)
            guard let found = found?.pointee else { return (code, nil) }
            let entry = Entry(
                name: String(cString: found.pw_name), userID: found.pw_uid, groupID: found.pw_gid,
                home: String(cString: found.pw_dir))
            return (code, entry)
        }
    }

    private static func groupID(_ group: String) throws(CommandUserError) -> gid_t {
        var record = Glibc.group()
        let found: gid_t? = try withBuffer { buffer in
            var found: UnsafeMutablePointer<Glibc.group>?
            let code = getgrnam_r(group, &record, buffer.baseAddress!, buffer.count, &found)
            return (code, found?.pointee.gr_gid)
        }
        guard let id = found ?? number(group) else {
            throw CommandUserError("there is no group '\(group)'")
        }
        return id
    }

    /// Calls a look-up with more and more room until its entry fits.
    private static func withBuffer<Found>(
        _ find: (UnsafeMutableBufferPointer<CChar>) -> (code: Int32, found: Found?)
    ) throws(CommandUserError) -> Found? {
        var bytes = 4_096
        while true {
            let (code, found) = withUnsafeTemporaryAllocation(of: CChar.self, capacity: bytes, find)
            switch code {
            // The last two say of some databases that there is no such entry.
            case 0, ENOENT, ESRCH: return found
            case ERANGE where bytes < entryBytesMax: bytes *= 4
            case EINTR: continue
            default:
                throw CommandUserError(
                    "the system's user database cannot be read: \(String(cString: strerror(code)))")
            }
        }
    }

    private static func groups(of name: String, and group: gid_t) throws(CommandUserError) -> [gid_t] {
        var count: Int32 = 64
        while true {
            var groups = [gid_t](repeating: 0, count: Int(count))
            var found = count
            if getgrouplist(name, group, &groups, &found) >= 0 { return Array(groups.prefix(Int(found))) }
            guard count < groupsMax else {
                throw CommandUserError("user '\(name)' is in more than \(groupsMax) groups")
            }
            count = min(max(found, count * 2), groupsMax)
        }
    }
}

/// Why no user can be found.
package struct CommandUserError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }
}
