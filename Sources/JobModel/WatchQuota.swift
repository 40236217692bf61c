package import Support

/// How many watches of each user are open. Pure.
package struct WatchQuota: Sendable {
    package let watchesMax: Int
    private var open: [ExactText: Int] = [:]

    package init(watchesMax: Int) {
        self.watchesMax = watchesMax
    }

    var users: Int { open.count }

    /// Opens a watch that counts for each of the users, each named once. Returns the one that has too many, and then none is
    /// opened.
    package mutating func open(for users: [ExactText]) -> ExactText? {
        if let full = users.first(where: { open[$0, default: 0] >= watchesMax }) { return full }
        for user in users { open[user, default: 0] += 1 }
        return nil
    }

    package mutating func close(for users: [ExactText]) {
        for user in users {
            let left = open[user, default: 0] - 1
            open[user] = left > 0 ? left : nil
        }
    }
}
