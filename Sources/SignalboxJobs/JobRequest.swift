public import Foundation

/// A job to enqueue. What is nil has the service's default.
public struct JobRequest: Sendable {
    /// The kind of work: 1 to 128 characters of a–z, A–Z, 0–9, `.`, `_`, `-`, `/`. A live node must handle it.
    public var kind: String
    /// The user on whose behalf it runs: 1 to 256 bytes of UTF-8 without control characters.
    public var userID: String
    /// The handler's input.
    public var payload: JobPayload
    /// The queue. Nil: `default`.
    public var queue: String?
    /// The id to give to the job. Nil: a new one.
    public var id: UUID?
    /// Unique per user: the same key with the same content gives the first job back. At most 256 bytes.
    public var idempotencyKey: String?
    /// −100 to 100, higher first within a user and queue.
    public var priority = 0
    /// When it may start at the earliest.
    public var due = Due.now
    /// The number of attempts in all, 1 to 100. Nil: 3.
    public var maxAttempts: Int?
    /// The delays between attempts. Nil: those of `RetryPolicy()`.
    public var retryPolicy: RetryPolicy?
    /// The hard limit of one attempt, 1 ms to 30 days. Nil: that of the kind.
    public var timeout: Duration?
    /// After this time an attempt is asked to wrap up; less than `timeout`. Nil: that of the kind, if it has one.
    public var softTimeout: Duration?
    /// Labels to find the job again: at most 32, keys of 1 to 63 characters of a–z, A–Z, 0–9, `.`, `_`, `-`, `/`, values
    /// of up to 256 bytes.
    public var labels: [String: String] = [:]

    /// When a job may start at the earliest.
    public enum Due: Sendable, Hashable {
        /// At once.
        case now
        /// After this delay from the commit, 0 to 10 years.
        case after(Duration)
        /// At a moment; one that has passed means at once.
        case at(Date)
    }

    /// The delay before the next attempt is `initialDelay × factor^(n − 1)` after the n-th failure, at most `maxDelay`, and
    /// is then moved at random by up to ± `jitter` of itself.
    public struct RetryPolicy: Sendable, Hashable {
        /// The delay after the first failure, up to 30 days.
        public var initialDelay: Duration
        /// The factor of each further delay, 1 to 100.
        public var factor: Double
        /// The longest delay, up to 30 days.
        public var maxDelay: Duration
        /// The share of the delay that it may be moved by, 0 to 1.
        public var jitter: Double

        /// A policy; what is left out is as for jobs without a policy.
        public init(
            initialDelay: Duration = .seconds(5), factor: Double = 2, maxDelay: Duration = .seconds(3600),
            jitter: Double = 0
        ) {
            self.initialDelay = initialDelay
            self.factor = factor
            self.maxDelay = maxDelay
            self.jitter = jitter
        }
    }

    /// A job with a payload of any type; none at all is read as `null` by handlers of JSON.
    public init(kind: String, userID: String, payload: JobPayload = JobPayload()) {
        self.kind = kind
        self.userID = userID
        self.payload = payload
    }

    /// A job whose payload is `input` as JSON. Throws what the encoding of `input` throws.
    public init(kind: String, userID: String, input: some Encodable) throws {
        self.init(kind: kind, userID: userID, payload: try JobPayload(json: input))
    }
}

/// A filter: a job matches if it fulfils every condition that is set.
public struct JobFilter: Sendable, Hashable {
    /// Jobs of this user.
    public var userID: String?
    /// Jobs in this queue.
    public var queue: String?
    /// Jobs of one of these kinds, at most 32. Empty: of any.
    public var kinds: [String] = []
    /// Jobs in one of these states. Empty: in any.
    public var states: Set<JobState> = []
    /// Jobs with all of these labels, at most 8.
    public var labels: [String: String] = [:]
    /// Jobs created at this moment or after it.
    public var createdFrom: Date?
    /// Jobs created before this moment.
    public var createdTo: Date?

    /// Every job.
    public init() {}
}
