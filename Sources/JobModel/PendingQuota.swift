package import Support

/// How much of each user may wait, over all nodes. Pure.
///
/// What a user has waiting is what the database had when it was asked, and what this node has let in since. What has left
/// the queue meanwhile is not known, so that is never too little, but for what other nodes have let in: therefore an answer
/// counts for a second. And it may be too much: therefore nobody is refused before the database was asked again, unless this
/// node has let in nothing since.
package struct PendingQuota: Sendable {
    package struct Amount: Sendable, Hashable {
        package var jobs: Int
        /// Of their payloads.
        package var bytes: Int

        package init(jobs: Int, bytes: Int) {
            self.jobs = jobs
            self.bytes = bytes
        }

        package static let zero = Amount(jobs: 0, bytes: 0)

        package static func += (left: inout Amount, right: Amount) {
            left.jobs += right.jobs
            left.bytes += right.bytes
        }

        fileprivate static func -= (left: inout Amount, right: Amount) {
            left.jobs -= right.jobs
            left.bytes -= right.bytes
        }
    }

    package enum Limit: Sendable, Equatable {
        case jobs(Int)
        case bytes(Int)
    }

    package enum Verdict: Sendable, Equatable {
        case allowed
        /// The database is to be asked (`willAsk`, `answer`), and then this once more.
        case ask
        case refused(Limit)
        /// They are more than may ever wait.
        case tooMany(Limit)
    }

    private struct User {
        /// Nil: it was never asked.
        var answer: (amount: Amount, askedAt: ContinuousClock.Instant)?
        /// Committed since the question that was answered last, or at the same time.
        var added = Amount.zero
        /// The same since the last question.
        var addedSinceAsked = Amount.zero
        /// Let in, and not yet known to be committed.
        var underWay = Amount.zero
    }

    /// How long an answer counts.
    package static let freshness: Duration = .seconds(1)
    /// Users in memory before those are forgotten whose answer has become too old.
    private static let usersMin = 10_000

    package let jobsMax: Int
    package let bytesMax: Int
    private var byUser: [ExactText: User] = [:]
    private var usersMax = usersMin

    package init(jobsMax: Int = .max, bytesMax: Int = .max) {
        self.jobsMax = jobsMax
        self.bytesMax = bytesMax
    }

    var users: Int { byUser.count }

    /// - Parameter wasAsked: the database was asked for this; there is no asking again.
    package func verdict(
        on wanted: Amount, of user: ExactText, now: ContinuousClock.Instant, wasAsked: Bool = false
    ) -> Verdict {
        if let limit = limit(under: wanted) { return .tooMany(limit) }
        guard let known = byUser[user], let answer = known.answer else { return .ask }
        guard wasAsked || answer.askedAt.duration(to: now) < Self.freshness else { return .ask }
        var sum = answer.amount
        for amount in [known.added, known.underWay, wanted] { sum += amount }
        guard let limit = limit(under: sum) else { return .allowed }
        return wasAsked || known.added == .zero && known.underWay == .zero ? .refused(limit) : .ask
    }

    private func limit(under amount: Amount) -> Limit? {
        if amount.jobs > jobsMax { return .jobs(jobsMax) }
        return amount.bytes > bytesMax ? .bytes(bytesMax) : nil
    }

    /// They are let in.
    package mutating func take(_ wanted: Amount, of user: ExactText) {
        byUser[user, default: User()].underWay += wanted
    }

    /// It is known what became of them.
    package mutating func settle(_ wanted: Amount, of user: ExactText, wereAdded: Bool) {
        guard var known = byUser[user] else { return }
        known.underWay -= wanted
        if wereAdded {
            known.added += wanted
            known.addedSinceAsked += wanted
        }
        byUser[user] = known
    }

    /// The database is about to be asked.
    package mutating func willAsk(about user: ExactText) {
        byUser[user, default: User()].addedSinceAsked = .zero
    }

    package mutating func answer(_ amount: Amount, about user: ExactText, askedAt: ContinuousClock.Instant) {
        guard var known = byUser[user] else { return }
        known.answer = (amount, askedAt)
        known.added = known.addedSinceAsked
        byUser[user] = known
    }

    /// To be called now and then: what is of no use any more is forgotten, once it is much.
    package mutating func tidy(now: ContinuousClock.Instant) {
        guard byUser.count > usersMax else { return }
        byUser = byUser.filter { _, user in
            user.underWay != .zero
                || user.answer.map { $0.askedAt.duration(to: now) < Self.freshness } ?? false
        }
        // Looked through again when they are twice as many, so that it costs each question little.
        usersMax = max(Self.usersMin, 2 * byUser.count)
    }
}
