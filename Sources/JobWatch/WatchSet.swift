/// A set of watches. One watch is stored inline, in the space of a reference: most jobs have one watch, and there are very
/// many of them.
enum WatchSet: Sendable {
    case empty
    case one(Subscription)
    /// At least one.
    case many(Dense)

    /// Watches in an array, which is walked for every event of a job, and the index of each for its removal.
    struct Dense: Sendable {
        fileprivate var watches: [Subscription] = []
        private var indices: [ObjectIdentifier: Int] = [:]

        fileprivate mutating func insert(_ watch: Subscription) {
            let id = ObjectIdentifier(watch)
            guard indices[id] == nil else { return }
            indices[id] = watches.count
            watches.append(watch)
        }

        fileprivate mutating func remove(_ watch: Subscription) {
            guard let index = indices.removeValue(forKey: ObjectIdentifier(watch)) else { return }
            let last = watches.removeLast()
            guard index < watches.count else { return }
            watches[index] = last
            indices[ObjectIdentifier(last)] = index
        }
    }

    mutating func insert(_ watch: Subscription) {
        switch self {
        case .empty:
            self = .one(watch)
        case .one(let other):
            guard other !== watch else { return }
            var watches = Dense()
            watches.insert(other)
            watches.insert(watch)
            self = .many(watches)
        case .many(var watches):
            // With two owners of the array the change would copy it.
            self = .empty
            watches.insert(watch)
            self = .many(watches)
        }
    }

    mutating func remove(_ watch: Subscription) {
        switch self {
        case .empty: break
        case .one(let only):
            if only === watch { self = .empty }
        case .many(var watches):
            self = .empty
            watches.remove(watch)
            if !watches.watches.isEmpty { self = .many(watches) }
        }
    }

    var isEmpty: Bool {
        if case .empty = self { true } else { false }
    }

    /// Any one of the watches.
    var first: Subscription? {
        switch self {
        case .empty: nil
        case .one(let watch): watch
        case .many(let watches): watches.watches.first
        }
    }

    func forEach(_ body: (Subscription) -> Void) {
        switch self {
        case .empty: break
        case .one(let watch): body(watch)
        case .many(let watches): for watch in watches.watches { body(watch) }
        }
    }
}
