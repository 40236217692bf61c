/// A dictionary for keys of which there is mostly one.
///
/// One entry is stored inline, and a map that has become empty frees its table. There are very many watches: most are of
/// one job, and most jobs have one watch.
enum SmallMap<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    case empty
    case one(Key, Value)
    /// Never empty.
    case many([Key: Value])

    init(_ values: [Key: Value]) {
        if values.count > 1 {
            self = .many(values)
        } else if let (key, value) = values.first {
            self = .one(key, value)
        } else {
            self = .empty
        }
    }

    subscript(key: Key) -> Value? {
        get {
            switch self {
            case .empty: nil
            case .one(let only, let value): only == key ? value : nil
            case .many(let values): values[key]
            }
        }
        set {
            switch self {
            case .empty:
                if let newValue { self = .one(key, newValue) }
            case .one(let only, let value):
                if let newValue {
                    self = only == key ? .one(key, newValue) : .many([only: value, key: newValue])
                } else if only == key {
                    self = .empty
                }
            case .many(var values):
                // With two owners of the table the assignment would copy it.
                self = .empty
                values[key] = newValue
                if !values.isEmpty { self = .many(values) }
            }
        }
    }

    var count: Int {
        switch self {
        case .empty: 0
        case .one: 1
        case .many(let values): values.count
        }
    }

    var isEmpty: Bool {
        if case .empty = self { true } else { false }
    }

    var keys: [Key] { keys { _ in true } }

    /// Removes any one of the entries and returns its value.
    mutating func popFirst() -> Value? {
        switch self {
        case .empty: return nil
        case .one(_, let value):
            self = .empty
            return value
        case .many(var values):
            self = .empty
            let value = values.remove(at: values.startIndex).value
            if !values.isEmpty { self = .many(values) }
            return value
        }
    }

    func keys(where isWanted: (Value) -> Bool) -> [Key] {
        switch self {
        case .empty: []
        case .one(let key, let value): isWanted(value) ? [key] : []
        case .many(let values): values.filter { isWanted($0.value) }.map(\.key)
        }
    }

    func forEach(_ body: (Value) -> Void) {
        switch self {
        case .empty: break
        case .one(_, let value): body(value)
        case .many(let values): for value in values.values { body(value) }
        }
    }
}
