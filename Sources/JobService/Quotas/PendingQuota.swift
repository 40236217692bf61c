import JobModel
import Support

/// The quota of pending jobs of each user, and of the bytes of their payloads, over all nodes. It is pure.
///
/// A user's pending jobs are estimated as the database's last answer plus the jobs that this node has admitted since. The
/// estimate ignores jobs that have started since, so it is never too low, except for jobs that other nodes have admitted:
/// therefore an answer counts for one second. And it may be too high: therefore a refusal is preceded by a new query to
/// the database, unless this node has admitted nothing since the last one.
struct PendingQuota: Sendable {
    enum Limit: Sendable, Equatable {
        case jobs(Int)
        case bytes(Int)
    }

    enum Verdict: Sendable, Equatable {
        case allowed
        /// The database has to be queried (`willQuery`, `answer`), and then the decision is made again.
        case ask
        case refused(Limit)
        /// The jobs are more than the whole quota.
        case tooMany(Limit)
    }

    private struct User {
        /// The last answer of the database about the user. Nil: there was none.
        var answer: (amount: PendingAmount, askedAt: ContinuousClock.Instant)?
        /// The jobs that were committed after the last answered query began.
        var added = PendingAmount.zero
        /// The jobs that were committed after the last query began, whether or not it is answered.
        var addedSinceAsked = PendingAmount.zero
        /// The jobs that are admitted, and not yet known to be committed.
        var inFlight = PendingAmount.zero
    }

    /// The time for which an answer of the database is used.
    static let freshness: Duration = .seconds(1)
    /// Users in memory before those with an old answer are forgotten.
    private static let usersMin = 10_000

    let jobsMax: Int
    let bytesMax: Int
    private var byUser: [ExactText: User] = [:]
    private var usersMax = usersMin

    init(jobsMax: Int = .max, bytesMax: Int = .max) {
        self.jobsMax = jobsMax
        self.bytesMax = bytesMax
    }

    var users: Int { byUser.count }

    /// - Parameter wasLookedUp: whether the database was queried for these jobs already. It is not queried again.
    func verdict(
        on wanted: PendingAmount, of user: ExactText, now: ContinuousClock.Instant, wasLookedUp: Bool = false
    ) -> Verdict {
        if let limit = limit(under: wanted) { return .tooMany(limit) }
        guard let known = byUser[user], let answer = known.answer else { return .ask }
        guard wasLookedUp || answer.askedAt.duration(to: now) < Self.freshness else { return .ask }
        var sum = answer.amount
        for amount in [known.added, known.inFlight, wanted] { sum += amount }
        guard let limit = limit(under: sum) else { return .allowed }
        return wasLookedUp || known.added == .zero && known.inFlight == .zero ? .refused(limit) : .ask
    }

    private func limit(under amount: PendingAmount) -> Limit? {
        if amount.jobs > jobsMax { return .jobs(jobsMax) }
        return amount.bytes > bytesMax ? .bytes(bytesMax) : nil
    }

    /// Counts jobs that are admitted.
    mutating func take(_ wanted: PendingAmount, of user: ExactText) {
        byUser[user, default: User()].inFlight += wanted
    }

    /// Records what became of jobs that were admitted.
    mutating func settle(_ wanted: PendingAmount, of user: ExactText, wereAdded: Bool) {
        guard var known = byUser[user] else { return }
        known.inFlight -= wanted
        if wereAdded {
            known.added += wanted
            known.addedSinceAsked += wanted
        }
        byUser[user] = known
    }

    /// Must be called before the database is queried.
    mutating func willQuery(about user: ExactText) {
        byUser[user, default: User()].addedSinceAsked = .zero
    }

    mutating func answer(_ amount: PendingAmount, about user: ExactText, askedAt: ContinuousClock.Instant) {
        guard var known = byUser[user] else { return }
        known.answer = (amount, askedAt)
        known.added = known.addedSinceAsked
        byUser[user] = known
    }

    /// Forgets users with an old answer, once they are many. It should be called from time to time.
    mutating func tidy(now: ContinuousClock.Instant) {
        guard byUser.count > usersMax else { return }
        byUser = byUser.filter { _, user in
            user.inFlight != .zero
                || user.answer.map { $0.askedAt.duration(to: now) < Self.freshness } ?? false
        }
        // The next search comes when they are twice as many, so that it costs each query little.
        usersMax = max(Self.usersMin, 2 * byUser.count)
    }
}
