import JobModel

/// The watches that something is to be sent to.
struct Recipients: Sendable {
    let number: Int64
    /// Watches of the job that has this number in the database, by name.
    var named: WatchSet
    /// Watches of users and queues.
    var others: [Subscription]

    var isEmpty: Bool { named.isEmpty && others.isEmpty }

    /// False when a watch of the job by name has to get it again (`Subscription.receive`).
    @discardableResult
    func send(_ update: WatchUpdate) -> Bool {
        var allHaveIt = true
        named.forEach { watch in
            // The database may have given the number to another job, after a restore.
            guard watch.names(update.job, as: number) else { return }
            allHaveIt = watch.receive(update) && allHaveIt
        }
        for watch in others { watch.receive(update) }
        return allHaveIt
    }
}
