import JobModel
import JobStore
import Support

/// The watches of users and queues, found by the lane in which something has happened.
///
/// A watch that is limited to some users is kept under each of them, and any other under its queue. So an event is
/// compared with the watches of its own user and those that take all users of its queue, however many others there are.
struct WatchTable: Sendable {
    private var byUser: [ExactText: WatchSet] = [:]
    // exact: names of queues are ASCII.
    private var byQueue: [String: WatchSet] = [:]
    private var ofEverything: WatchSet = .empty

    var isEmpty: Bool { byUser.isEmpty && byQueue.isEmpty && ofEverything.isEmpty }

    /// All watches. One of several users is listed once for each of them.
    var all: [Subscription] {
        var all: [Subscription] = []
        for watches in byUser.values { watches.forEach { all.append($0) } }
        for watches in byQueue.values { watches.forEach { all.append($0) } }
        ofEverything.forEach { all.append($0) }
        return all
    }

    /// The watches that include a lane, each once.
    func watches(of lane: LaneName) -> [Subscription] {
        var found: [Subscription] = []
        for watches in candidates(of: lane) {
            watches.forEach { if $0.target.includes(lane) { found.append($0) } }
        }
        return found
    }

    /// The watches that a lane is compared with: by its user, by its queue, and those of everything.
    func candidates(of lane: LaneName) -> [WatchSet] {
        [byUser[lane.userID] ?? .empty, byQueue[lane.queue] ?? .empty, ofEverything]
    }

    mutating func add(_ subscription: Subscription) {
        forEachSet(of: subscription) { $0.insert(subscription) }
    }

    /// Does nothing for a watch that is not here.
    mutating func remove(_ subscription: Subscription) {
        forEachSet(of: subscription) { $0.remove(subscription) }
    }

    private mutating func forEachSet(of subscription: Subscription, _ change: (inout WatchSet) -> Void) {
        guard case .all(_, let queue, _) = subscription.target else { return }
        switch (subscription.users, queue) {
        case (.only(let users), _):
            for user in users { Self.change(&byUser[user], change) }
        case (.all, let queue?):
            Self.change(&byQueue[queue], change)
        case (.all, nil):
            change(&ofEverything)
        }
    }

    private static func change(_ watches: inout WatchSet?, _ change: (inout WatchSet) -> Void) {
        var changed = watches ?? .empty
        // With two owners of the table a change would copy it.
        watches = nil
        change(&changed)
        if !changed.isEmpty { watches = changed }
    }
}
