internal import Synchronization

/// What clients can make the server hold, on all connections together: each has its own limits, but there may be thousands.
struct SharedBudgets: Sendable {
    let requests: SharedBudget
    let unfinishedRequests: SharedBudget
    let unreadAnswers: SharedBudget

    init(_ configuration: ServerConfiguration) {
        requests = SharedBudget(max: configuration.requestBytesMax)
        unfinishedRequests = SharedBudget(max: configuration.unfinishedRequestBytesMax)
        unreadAnswers = SharedBudget(max: configuration.unreadAnswerBytesMax)
    }
}

/// Something of which all connections together may have only so much.
final class SharedBudget: Sendable {
    private let max: Int
    private let used = Atomic(0)

    init(max: Int) {
        self.max = max
    }

    /// More than half is taken.
    var isScarce: Bool { used.load(ordering: .relaxed) > max / 2 }

    /// What one connection has of it, beyond what each may have for nothing.
    struct Share {
        /// Of this, nothing is counted.
        let free: Int
        private(set) var counted = 0

        init(free: Int) {
            self.free = free
        }

        /// Whether there is as much left as it has. What is free needs no room.
        func hasRoom(in budget: SharedBudget) -> Bool {
            counted == 0 || counted <= budget.max - budget.used.load(ordering: .relaxed)
        }

        /// It has so much now. False: that is more than there is left. So one connection gets half of it, the next one half
        /// of the rest: whoever takes all that he can leaves something to others. It is taken all the same, and is to be
        /// given back soon.
        mutating func update(_ bytes: Int, of budget: SharedBudget) -> Bool {
            let wanted = Swift.max(bytes - free, 0)
            let change = wanted - counted
            guard change != 0 else { return true }
            counted = wanted
            let used = budget.used.add(change, ordering: .relaxed).newValue
            return change < 0 || wanted <= budget.max - used
        }
    }
}
