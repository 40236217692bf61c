import Support

/// A set of watches. One watch is stored inline, in the space of a reference: most jobs have one watch, and there are very
/// many of them.
enum WatchSet: Sendable {
    case empty
    case one(Subscription)
    /// Never empty. Every event of a job walks through its watches. It is indirect, since a map takes more than a reference.
    indirect case many(DenseMap<ObjectIdentifier, Subscription>)

    mutating func insert(_ watch: Subscription) {
        switch self {
        case .empty:
            self = .one(watch)
        case .one(let other):
            guard other !== watch else { return }
            var watches = DenseMap<ObjectIdentifier, Subscription>()
            watches[ObjectIdentifier(other)] = other
            watches[ObjectIdentifier(watch)] = watch
            self = .many(watches)
        case .many(var watches):
            // With two owners of the array the change would copy it.
            self = .empty
            watches[ObjectIdentifier(watch)] = watch
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
            watches[ObjectIdentifier(watch)] = nil
            if !watches.isEmpty { self = .many(watches) }
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
        case .many(let watches): watches.values.first
        }
    }

    func forEach(_ body: (Subscription) -> Void) {
        switch self {
        case .empty: break
        case .one(let watch): body(watch)
        case .many(let watches): for watch in watches.values { body(watch) }
        }
    }
}
