import JobModel

/// The watches that something is to be sent to.
struct Recipients: Sendable {
    /// Watches of the job by name.
    var named: WatchSet
    /// Watches of users and queues.
    var others: [Subscription]

    var isEmpty: Bool { named.isEmpty && others.isEmpty }

    /// False when a watch of the job by name has to get it again (`Subscription.receive`).
    @discardableResult
    func send(_ update: WatchUpdate) -> Bool {
        var allHaveIt = true
        named.forEach { allHaveIt = $0.receive(update) && allHaveIt }
        for watch in others { watch.receive(update) }
        return allHaveIt
    }
}
