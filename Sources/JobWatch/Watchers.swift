import JobModel

/// The watches of one job. One takes no memory of its own: most jobs are watched once.
enum Watchers: Sendable {
    case one(Subscription)
    /// Never empty.
    case many([Subscription])

    mutating func add(_ subscription: Subscription) {
        switch self {
        case .one(let other): self = .many([other, subscription])
        case .many(var all):
            // Else there were two owners, and the change would copy them all.
            self = .one(subscription)
            all.append(subscription)
            self = .many(all)
        }
    }

    /// False when nobody is left; then this is of no use any more.
    mutating func remove(_ subscription: Subscription) -> Bool {
        switch self {
        case .one(let only): return only !== subscription
        case .many(var all):
            self = .one(subscription)
            all.removeAll { $0 === subscription }
            if !all.isEmpty { self = .many(all) }
            return !all.isEmpty
        }
    }

    var first: Subscription {
        switch self {
        case .one(let only): only
        case .many(let all): all[0]
        }
    }

    func forEach(_ body: (Subscription) -> Void) {
        switch self {
        case .one(let subscription): body(subscription)
        case .many(let all): for subscription in all { body(subscription) }
        }
    }
}

/// Who is to be told of something: watches of the job, and of users and queues.
struct Hearers: Sendable {
    var named: Watchers?
    var scopes: [Subscription]

    var isEmpty: Bool { named == nil && scopes.isEmpty }

    /// False when a watch of the job wants it once more (`Subscription.receive`).
    @discardableResult
    func tell(_ news: JobNews) -> Bool {
        var isSure = true
        named?.forEach { isSure = $0.receive(news) && isSure }
        for scope in scopes { scope.receive(news) }
        return isSure
    }
}
