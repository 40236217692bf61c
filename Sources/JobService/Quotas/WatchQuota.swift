import Support

/// The number of open watches of each user. Pure.
struct WatchQuota: Sendable {
    let watchesMax: Int
    private var open: [ExactText: Int] = [:]

    init(watchesMax: Int) {
        self.watchesMax = watchesMax
    }

    var users: Int { open.count }

    /// Counts a watch against each of the users, who are all different.
    ///
    /// - Returns: a user whose quota is exceeded; then nothing is counted.
    mutating func open(for users: [ExactText]) -> ExactText? {
        if let full = users.first(where: { open[$0, default: 0] >= watchesMax }) { return full }
        for user in users { open[user, default: 0] += 1 }
        return nil
    }

    mutating func close(for users: [ExactText]) {
        for user in users {
            let left = open[user, default: 0] - 1
            open[user] = left > 0 ? left : nil
        }
    }
}
