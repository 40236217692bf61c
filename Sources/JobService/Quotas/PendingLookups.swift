import JobModel
import Support

/// Coalesces the lookups of how many jobs users have pending. It is pure: the caller runs the queries.
///
/// At most one query is in flight, about a bounded number of users, who are taken round robin among the waiters. So one
/// query does not get long because many ask, a waiter with very many users does not delay the others, and a query that
/// fails is reported only to those who asked about its users.
struct PendingLookups<Waiter> {
    private struct Waiting {
        let waiter: Waiter
        /// The users without an answer so far.
        var users: Set<ExactText>
    }

    /// The waiters in the order in which they are served.
    private var waiting: [Waiting] = []
    /// The number of waiters, from the front, that the query in flight serves. It does not serve a waiter that came after
    /// its start, because that one may know of jobs that the query has not seen.
    private var waitersInFlight = 0
    /// Whether the loop over `next` runs: from the first lookup until no waiter is left.
    private var isRunning = false

    /// - Parameter users: at least one.
    /// - Returns: whether the caller has to start the loop over `next`, which then serves all later waiters too.
    mutating func add(_ waiter: Waiter, about users: [ExactText]) -> Bool {
        waiting.append(Waiting(waiter: waiter, users: Set(users)))
        defer { isRunning = true }
        return !isRunning
    }

    /// The users of the next query. Nil: there is no waiter, and the loop ends.
    mutating func next(usersMax: Int) -> [ExactText]? {
        guard !waiting.isEmpty else {
            isRunning = false
            return nil
        }
        waitersInFlight = waiting.count
        var users: Set<ExactText> = []
        // First one user of each waiter, then as many as there is room for.
        for usersOfEach in [1, usersMax] {
            for one in waiting where users.count < usersMax {
                let most = min(usersOfEach, usersMax - users.count)
                let more = Array(one.users.lazy.filter { !users.contains($0) }.prefix(most))
                users.formUnion(more)
            }
        }
        return Array(users)
    }

    /// The query about these users is over. Returns the waiters to resume: after an answer, those that have an answer for
    /// all their users; after a failure, all that asked about one of these users.
    mutating func answered(_ users: [ExactText], isGood: Bool) -> [Waiter] {
        var done: [Waiter] = []
        var left: [Waiting] = []
        var served: [Waiting] = []
        for (index, one) in waiting.enumerated() {
            var one = one
            if index < waitersInFlight {
                let before = one.users.count
                for user in users { one.users.remove(user) }
                let wasLookedUp = one.users.count < before
                if isGood ? one.users.isEmpty : wasLookedUp {
                    done.append(one.waiter)
                    continue
                }
                if wasLookedUp {
                    served.append(one)
                    continue
                }
            }
            left.append(one)
        }
        waiting = left + served
        return done
    }
}
