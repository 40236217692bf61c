package import Support

/// How fast each user may enqueue: so many jobs a second, and at once as many as a second's. Pure.
///
/// Of each user there is only the moment up to which its jobs have used up its share, as if they had come evenly. Who has
/// not enqueued for a second has all of it.
package struct EnqueueRate: Sendable {
    package enum Verdict: Sendable, Equatable {
        case allowed
        /// There will be room for them.
        case refused(retryAfter: Duration)
        /// They are more than ever fit.
        case tooMany
    }

    /// Users in memory before those are forgotten that have all of their share again.
    private static let usersMin = 10_000

    package let jobsPerSecond: Int
    private let interval: Duration
    private var usedUntil: [ExactText: ContinuousClock.Instant] = [:]
    private var usersMax = usersMin

    /// - Parameter jobsPerSecond: at least 1.
    package init(jobsPerSecond: Int) {
        self.jobsPerSecond = jobsPerSecond
        interval = .seconds(1) / jobsPerSecond
    }

    var users: Int { usedUntil.count }

    package func verdict(on jobs: Int, of user: ExactText, now: ContinuousClock.Instant) -> Verdict {
        guard jobs <= jobsPerSecond else { return .tooMany }
        let over = now.duration(to: end(of: jobs, user, now)) - .seconds(1)
        return over <= .zero ? .allowed : .refused(retryAfter: over)
    }

    /// They are let in.
    package mutating func take(_ jobs: Int, of user: ExactText, now: ContinuousClock.Instant) {
        usedUntil[user] = end(of: jobs, user, now)
        guard usedUntil.count > usersMax else { return }
        usedUntil = usedUntil.filter { $0.value > now }
        // What is left has enqueued within a second: as many as that are bounded by what a node can do. Looked through
        // again when they are twice as many, so that it costs each call little.
        usersMax = max(Self.usersMin, 2 * usedUntil.count)
    }

    private func end(of jobs: Int, _ user: ExactText, _ now: ContinuousClock.Instant)
        -> ContinuousClock.Instant
    {
        max(usedUntil[user] ?? now, now) + interval * jobs
    }
}
