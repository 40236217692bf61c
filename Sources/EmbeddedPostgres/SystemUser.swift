import Glibc

/// Looks in the system's databases of users and groups.
enum SystemUser {
    /// `getpwnam_r` and its like want room for the entry's texts.
    private static let entryBytesMax = 16384

    static func find(_ name: String) -> (userID: uid_t, groupID: gid_t)? {
        var entry = unsafe passwd()
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: entryBytesMax) { buffer in
            var found: UnsafeMutablePointer<passwd>?
            guard unsafe getpwnam_r(name, &entry, buffer.baseAddress!, buffer.count, &found) == 0,
                unsafe found != nil
            else { return nil }
            return unsafe (entry.pw_uid, entry.pw_gid)
        }
    }

    /// Nil: the system knows no user with this number.
    static func knownName(_ userID: uid_t) -> String? {
        var entry = unsafe passwd()
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: entryBytesMax) { buffer in
            var found: UnsafeMutablePointer<passwd>?
            guard unsafe getpwuid_r(userID, &entry, buffer.baseAddress!, buffer.count, &found) == 0,
                unsafe found != nil
            else { return nil }
            return unsafe String(cString: entry.pw_name)
        }
    }

    /// For messages and commands: the name, else the number.
    static func name(_ userID: uid_t) -> String { knownName(userID) ?? "\(userID)" }
}
