import Glibc

/// Looks up users in the system's database.
enum SystemUser {
    /// The size of the buffer for an entry's texts, for `getpwnam_r` and `getpwuid_r`.
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

    /// The name of a user; nil if the system knows no user with this number.
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

    /// The name for messages and commands; the number if there is no name.
    static func name(_ userID: uid_t) -> String { knownName(userID) ?? "\(userID)" }
}
