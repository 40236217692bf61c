import Support

/// The rate limit of enqueueing: a number of jobs per second for each user, with bursts of up to a second's worth. Pure.
///
/// It is a token bucket, kept as the time up to which the user's jobs have used up the rate (GCRA): a user who has not
/// enqueued for a second has a full bucket.
struct EnqueueRate: Sendable {
    enum Verdict: Sendable, Equatable {
        case allowed
        /// The jobs will be allowed after this delay.
        case refused(retryAfter: Duration)
        /// The jobs are more than the bucket holds, so they will never be allowed.
        case tooMany
    }

    /// Users in memory before those with a full bucket are forgotten.
    private static let usersMin = 10_000

    let jobsPerSecond: Int
    private let interval: Duration
    private var usedUntil: [ExactText: ContinuousClock.Instant] = [:]
    private var usersMax = usersMin

    /// - Parameter jobsPerSecond: at least 1.
    init(jobsPerSecond: Int) {
        self.jobsPerSecond = jobsPerSecond
        interval = .seconds(1) / jobsPerSecond
    }

    var users: Int { usedUntil.count }

    func verdict(on jobs: Int, of user: ExactText, now: ContinuousClock.Instant) -> Verdict {
        guard jobs <= jobsPerSecond else { return .tooMany }
        let over = now.duration(to: end(of: jobs, user, now)) - .seconds(1)
        return over <= .zero ? .allowed : .refused(retryAfter: over)
    }

    /// Takes tokens for jobs that are admitted.
    mutating func take(_ jobs: Int, of user: ExactText, now: ContinuousClock.Instant) {
        usedUntil[user] = end(of: jobs, user, now)
        guard usedUntil.count > usersMax else { return }
        usedUntil = usedUntil.filter { $0.value > now }
        // The users that are left have enqueued within a second, so their number is bounded by what a node can do. The next
        // search comes when they are twice as many, so that it costs each call little.
        usersMax = max(Self.usersMin, 2 * usedUntil.count)
    }

    private func end(of jobs: Int, _ user: ExactText, _ now: ContinuousClock.Instant)
        -> ContinuousClock.Instant
    {
        max(usedUntil[user] ?? now, now) + interval * jobs
    }
}
