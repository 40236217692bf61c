package import JobModel
package import Support

/// A kind, and what the service needs to know to run its jobs.
package struct KindDefinition: Sendable, Hashable {
    package var kind: String
    /// Hard limit of one attempt. Every kind states its own; there is no hidden default.
    package var timeout: Duration
    /// The time after which an attempt is asked to wrap up; nil: never.
    package var softTimeout: Duration?
    /// The fate of a run whose node died.
    package var onInterruption: Interruption

    package init(
        kind: String, timeout: Duration, softTimeout: Duration? = nil, onInterruption: Interruption = .retry
    ) {
        self.kind = kind
        self.timeout = timeout
        self.softTimeout = softTimeout
        self.onInterruption = onInterruption
    }
}

/// Runs the attempts of one kind. Called once per attempt, many at a time.
///
/// A cancelled job, a hard timeout and a lost lease cancel the task; a runner then ends soon, by throwing or returning. The
/// error that it throws decides what follows: a `RunFailure` says it itself, and any other error is a failed attempt that
/// is retried while there are attempts left. For any other error the job's user sees only its type. Its description goes
/// to the server's log, because it may contain paths, addresses or secrets of the server.
package protocol JobRunner: Sendable {
    var definition: KindDefinition { get }
    func run(_ run: any Run) async throws -> JobResult
}

/// A failure with details that the runner chooses.
package struct RunFailure: Error, Sendable, Hashable {
    /// A word for programs, at most 64 bytes; empty: none.
    package var reason: String
    /// For the job's user, at most 4,096 bytes.
    package var message: String
    /// No further attempt.
    package var isPermanent: Bool
    /// When to try again, instead of what the job's policy says.
    package var retryAfter: Duration?
    /// Details for the server's log only, such as paths.
    package var details: String?

    package init(
        reason: String = "", message: String, isPermanent: Bool = false,
        retryAfter: Duration? = nil, details: String? = nil
    ) {
        self.reason = reason
        self.message = message
        self.isPermanent = isPermanent
        self.retryAfter = retryAfter
        self.details = details
    }
}

/// The facts about an attempt that its runner knows, and the means to report while it runs.
package protocol Run: Sendable {
    var jobID: JobID { get }
    var kind: String { get }
    var userID: String { get }
    var queue: String { get }
    var priority: Int { get }
    var labels: [ExactText: ExactText] { get }
    /// The number of the attempt, from 1. Each start of the job has the next one.
    var attempt: Int { get }
    /// The attempts of the budget that are used up, this one included and released ones not. From 1.
    var attemptsUsed: Int { get }
    /// The budget of attempts: no attempt follows once `attemptsUsed` reaches it.
    var maxAttempts: Int { get }
    var payload: [UInt8] { get }
    var contentType: String { get }
    /// The checkpoint that an earlier attempt saved; nil: there is none.
    var checkpoint: [UInt8]? { get }
    /// When the hard timeout stops the attempt.
    var deadline: ContinuousClock.Instant { get }
    /// The time after the cancellation of its task after which the attempt is abandoned.
    var grace: Duration { get }

    /// Replaces the progress without waiting.
    func report(stage: String, fraction: Double?, message: String, done: Int64, total: Int64)
    /// Adds a line to the job's log without waiting. If more than 200 lines are unsaved, the oldest are dropped.
    func log(_ level: LogLine.Level, _ message: String)
    /// Returns once it is committed, however long the database is away. At most 256 KiB. Throws `RunFailure` when it
    /// is larger, and `CancellationError` when the lease is lost, the task is cancelled, or the run is stopped while
    /// the database is away. A write that is in flight then is waited for until the run is given up.
    func save(checkpoint: [UInt8]) async throws
    /// Returns when the soft timeout is reached (at once if it was). Throws `CancellationError` when the
    /// task is cancelled first; never returns when there is no soft timeout.
    func softTimeout() async throws
    /// Returns when the run is given up (at once if it was): another attempt may begin, whatever is still going on.
    /// Comes at the end of `grace`, or earlier when a second stop leaves less time than the first. Throws
    /// `CancellationError` when the task is cancelled first.
    func abandoned() async throws
}
