/// Values by job. One entry takes no memory of its own, and none is kept for entries that are gone: there are very many
/// watches, and most are of one job.
enum JobMap<Value: Sendable>: Sendable {
    case none
    case one(JobID, Value)
    /// Never empty.
    case many([JobID: Value])

    subscript(job: JobID) -> Value? {
        get {
            switch self {
            case .none: nil
            case .one(let id, let value): id == job ? value : nil
            case .many(let values): values[job]
            }
        }
        set {
            switch self {
            case .none:
                if let newValue { self = .one(job, newValue) }
            case .one(let id, let value):
                if let newValue {
                    self = id == job ? .one(job, newValue) : .many([id: value, job: newValue])
                } else if id == job {
                    self = .none
                }
            case .many(var values):
                // Else there were two owners, and the change would copy them all.
                self = .none
                values[job] = newValue
                if !values.isEmpty { self = .many(values) }
            }
        }
    }

    var count: Int {
        switch self {
        case .none: 0
        case .one: 1
        case .many(let values): values.count
        }
    }

    var isEmpty: Bool {
        if case .none = self { true } else { false }
    }

    /// Takes out one of the entries, whichever.
    mutating func popFirst() -> Value? {
        switch self {
        case .none: return nil
        case .one(_, let value):
            self = .none
            return value
        case .many(var values):
            self = .none
            let value = values.remove(at: values.startIndex).value
            if !values.isEmpty { self = .many(values) }
            return value
        }
    }

    func jobs(where isWanted: (Value) -> Bool) -> [JobID] {
        switch self {
        case .none: []
        case .one(let id, let value): isWanted(value) ? [id] : []
        case .many(let values): values.filter { isWanted($0.value) }.map(\.key)
        }
    }
}
