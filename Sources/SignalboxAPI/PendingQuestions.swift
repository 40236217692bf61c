import JobModel
import Support

/// Who waits to hear how much some users have waiting, and about whom the database is asked next. Pure.
///
/// However many ask, there is one question at a time, about a bounded number of users, and they take turns: what many ask
/// for does not make one's question long, who asks about very many holds up nobody, and a question that fails is the
/// failure of those alone who asked about its users.
struct PendingQuestions<Asker> {
    private struct Waiting {
        let asker: Asker
        /// About whom there was no answer yet.
        var users: Set<ExactText>
    }

    /// In the order of their turns.
    private var waiting: [Waiting] = []
    /// How many of them the question under way is for: who comes later may have seen what it has not.
    private var askingFor = 0
    /// From the first question until nobody waits.
    private var isAsking = false

    /// - Parameter users: at least one.
    /// - Returns: whether the caller is to ask, question after question, for all who come.
    mutating func add(_ asker: Asker, about users: [ExactText]) -> Bool {
        waiting.append(Waiting(asker: asker, users: Set(users)))
        defer { isAsking = true }
        return !isAsking
    }

    /// About whom to ask now; nil: nobody waits, and who asked does so no longer.
    mutating func next(usersMax: Int) -> [ExactText]? {
        guard !waiting.isEmpty else {
            isAsking = false
            return nil
        }
        askingFor = waiting.count
        var users: Set<ExactText> = []
        // One of each, and then as many as there is room for.
        for usersOfEach in [1, usersMax] {
            for one in waiting where users.count < usersMax {
                let most = min(usersOfEach, usersMax - users.count)
                let more = Array(one.users.lazy.filter { !users.contains($0) }.prefix(most))
                users.formUnion(more)
            }
        }
        return Array(users)
    }

    /// The question about these users is over. Returns those whose waiting is over with it: where there was an answer, who
    /// has all of theirs; else everybody who asked about one of them.
    mutating func answered(_ users: [ExactText], isGood: Bool) -> [Asker] {
        var done: [Asker] = []
        var left: [Waiting] = []
        var hadTheirTurn: [Waiting] = []
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
                    hadTheirTurn.append(one)
                    continue
                }
            }
            left.append(one)
        }
        waiting = left + hadTheirTurn
        return done
    }
}
