import JobModel
import Support

/// Coalesces the questions how much users have pending. Pure.
///
/// At most one query is in flight, about a bounded number of users, who are taken round robin among the askers. So one
/// query does not get long because many ask, an asker with very many users does not delay the others, and a query that
/// fails is reported only to those who asked about its users.
struct PendingQuestions<Asker> {
    private struct Waiting {
        let asker: Asker
        /// Those about whom there was no answer yet.
        var users: Set<ExactText>
    }

    /// In the order in which they are served.
    private var waiting: [Waiting] = []
    /// How many of them, from the front, the query in flight is for. It does not count for an asker that came after its
    /// start, who may know of jobs that it has not seen.
    private var askingFor = 0
    /// True from the first question until none is waiting.
    private var isAsking = false

    /// - Parameter users: at least one.
    /// - Returns: whether the caller has to start the loop over `next`, which then serves all later askers too.
    mutating func add(_ asker: Asker, about users: [ExactText]) -> Bool {
        waiting.append(Waiting(asker: asker, users: Set(users)))
        defer { isAsking = true }
        return !isAsking
    }

    /// The users to ask about now; nil: no asker is waiting, and the loop ends.
    mutating func next(usersMax: Int) -> [ExactText]? {
        guard !waiting.isEmpty else {
            isAsking = false
            return nil
        }
        askingFor = waiting.count
        var users: Set<ExactText> = []
        // First one user of each asker, then as many as there is room for.
        for usersOfEach in [1, usersMax] {
            for one in waiting where users.count < usersMax {
                let most = min(usersOfEach, usersMax - users.count)
                let more = Array(one.users.lazy.filter { !users.contains($0) }.prefix(most))
                users.formUnion(more)
            }
        }
        return Array(users)
    }

    /// The query about these users is over. Returns the askers to resume: after an answer, those that have an answer for
    /// all their users; after a failure, all that asked about one of these users.
    mutating func answered(_ users: [ExactText], isGood: Bool) -> [Asker] {
        var done: [Asker] = []
        var left: [Waiting] = []
        var served: [Waiting] = []
        for (index, one) in waiting.enumerated() {
            var one = one
            if index < askingFor {
                let before = one.users.count
                for user in users { one.users.remove(user) }
                let wasAsked = one.users.count < before
                if isGood ? one.users.isEmpty : wasAsked {
                    done.append(one.asker)
                    continue
                }
                if wasAsked {
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
