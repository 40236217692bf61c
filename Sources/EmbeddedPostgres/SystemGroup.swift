internal import Synchronization

import Glibc

/// The users of a group of the system: its members, and the users whose primary group it is, who need not be
/// members.
enum SystemGroup {
    struct User {
        let name: String
        let userID: uid_t
        /// The primary group.
        let groupID: gid_t
    }

    struct Group {
        let name: String
        let groupID: gid_t
        let members: [String]
    }

    /// The most entries that are read of each database. A larger database is not read to its end.
    static let entriesMax = 100_000

    /// Guards the C library's position in each database and its buffer for an entry, which exist once per
    /// process.
    private static let walking = Mutex(())

    /// Whether the user is the only member of the group; false if the databases cannot be read.
    static func isAlone(_ userID: uid_t, in groupID: gid_t) -> Bool {
        guard let users = users(where: { $0 == userID || $1 == groupID }), let groups = groups(groupID) else {
            return false
        }
        return isAlone(userID, in: groupID, users: users, groups: groups)
    }

    /// Whether the user is the only member, by the database entries of the user and the group; other entries do
    /// not matter.
    ///
    /// There must be an entry of the user, and one of a group with the same name. Some databases answer a search
    /// for an entry but do not list all entries, so the other members of the group would not be known.
    static func isAlone(_ userID: uid_t, in groupID: gid_t, users: [User], groups: [Group]) -> Bool {
        // Two names with the same number are one user or one group.
        let names = Set(users.filter { $0.userID == userID }.map(\.name))
        let groups = groups.filter { $0.groupID == groupID }
        return groups.contains { names.contains($0.name) }
            && groups.allSatisfy { names.isSuperset(of: $0.members) }
            && users.allSatisfy { $0.groupID != groupID || $0.userID == userID }
    }

    /// The wanted users. Nil if the database cannot be listed, or has more entries than the limit.
    static func users(
        entriesMax: Int = entriesMax, where isWanted: (_ userID: uid_t, _ groupID: gid_t) -> Bool
    ) -> [User]? {
        walking.withLock { _ in
            setpwent()
            defer { endpwent() }
            var users: [User] = []
            for _ in 0...entriesMax {
                errno = 0
                guard let entry = unsafe getpwent() else { return isEnd ? users : nil }
                let (userID, groupID) = unsafe (entry.pointee.pw_uid, entry.pointee.pw_gid)
                guard isWanted(userID, groupID) else { continue }
                users.append(
                    User(
                        name: unsafe String(cString: entry.pointee.pw_name), userID: userID, groupID: groupID)
                )
            }
            return nil
        }
    }

    /// The groups with this number. Nil if the database cannot be listed, or has more entries than the limit.
    static func groups(_ groupID: gid_t, entriesMax: Int = entriesMax) -> [Group]? {
        walking.withLock { _ in
            setgrent()
            defer { endgrent() }
            var groups: [Group] = []
            for _ in 0...entriesMax {
                errno = 0
                guard let entry = unsafe getgrent() else { return isEnd ? groups : nil }
                guard unsafe entry.pointee.gr_gid == groupID else { continue }
                var members: [String] = []
                if var member = unsafe entry.pointee.gr_mem {
                    while let name = unsafe member.pointee {
                        members.append(unsafe String(cString: name))
                        unsafe member += 1
                    }
                }
                groups.append(
                    Group(
                        name: unsafe String(cString: entry.pointee.gr_name), groupID: groupID,
                        members: members))
            }
            return nil
        }
    }

    /// Whether no entry was returned because there are no more. glibc sets ENOENT then.
    private static var isEnd: Bool { errno == 0 || errno == ENOENT }
}
