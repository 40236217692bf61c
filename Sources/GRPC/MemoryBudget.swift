internal import Synchronization

/// The server-wide limits on what clients can make the server hold. Each connection has limits of its own, but there may
/// be thousands of connections.
struct MemoryBudgets: Sendable {
    let requests: MemoryBudget
    let unfinishedRequests: MemoryBudget
    let unreadResponses: MemoryBudget

    init(_ configuration: ServerConfiguration) {
        requests = MemoryBudget(max: configuration.requestBytesMax)
        unfinishedRequests = MemoryBudget(max: configuration.unfinishedRequestBytesMax)
        unreadResponses = MemoryBudget(max: configuration.unreadAnswerBytesMax)
    }
}

/// Bytes of which all connections together may hold only so many.
final class MemoryBudget: Sendable {
    private let max: Int
    private let used = Atomic(0)

    init(max: Int) {
        self.max = max
    }

    /// More than half is in use.
    var isScarce: Bool { used.load(ordering: .relaxed) > max / 2 }

    /// The part of one connection, beyond an allowance that is exempt.
    struct Share {
        /// Usage up to this many bytes is not counted.
        let exempt: Int
        private(set) var counted = 0

        init(exempt: Int) {
            self.exempt = exempt
        }

        /// Whether the connection's usage beyond its exempt allowance fits in the remaining budget.
        func hasRoom(in budget: MemoryBudget) -> Bool {
            counted == 0 || counted <= budget.max - budget.used.load(ordering: .relaxed)
        }

        /// Sets the usage to `bytes`. Returns false if it exceeds what remains; the caller must then shed load promptly.
        /// A connection may use at most as much as is left, so no single client can exhaust the budget: the first gets
        /// half of it, the next one half of the rest.
        mutating func update(_ bytes: Int, of budget: MemoryBudget) -> Bool {
            let wanted = Swift.max(bytes - exempt, 0)
            let change = wanted - counted
            guard change != 0 else { return true }
            counted = wanted
            let used = budget.used.add(change, ordering: .relaxed).newValue
            return change < 0 || wanted <= budget.max - used
        }
    }
}
