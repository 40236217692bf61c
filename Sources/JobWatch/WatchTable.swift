import JobModel
import JobStore
import Support

/// The watches of users and queues, found by the lane in which something has happened.
///
/// A watch that is limited to some users is kept under each of them, and any other under its queue. So an event is
/// compared with the watches of its own user and those that take all users of its queue, however many others there are.
struct WatchTable: Sendable {
    private typealias Watches = SmallMap<ObjectIdentifier, Subscription>

    private var byUser: [ExactText: Watches] = [:]
    // exact: names of queues are ASCII.
    private var byQueue: [String: Watches] = [:]
    private var ofEverything: Watches = .empty

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
    func candidates(of lane: LaneName) -> [SmallMap<ObjectIdentifier, Subscription>] {
        [byUser[lane.userID] ?? .empty, byQueue[lane.queue] ?? .empty, ofEverything]
    }

    mutating func add(_ subscription: Subscription) {
        set(subscription, for: subscription)
    }

    /// Does nothing for a watch that is not here.
    mutating func remove(_ subscription: Subscription) {
        set(nil, for: subscription)
    }

    private mutating func set(_ value: Subscription?, for subscription: Subscription) {
        guard case .all(_, let queue, _) = subscription.target else { return }
        let id = ObjectIdentifier(subscription)
        switch (subscription.users, queue) {
        case (.only(let users), _):
            for user in users { Self.set(value, for: id, in: &byUser[user]) }
        case (.all, let queue?):
            Self.set(value, for: id, in: &byQueue[queue])
        case (.all, nil):
            ofEverything[id] = value
        }
    }

    private static func set(_ value: Subscription?, for id: ObjectIdentifier, in watches: inout Watches?) {
        if watches == nil { watches = .empty }
        watches?[id] = value
        if watches?.isEmpty == true { watches = nil }
    }
}
