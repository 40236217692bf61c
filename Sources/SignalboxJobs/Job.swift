public import Foundation

/// A job as it is at one moment.
///
/// Swift compares its texts in normal form. The service distinguishes users, labels and keys by their bytes.
public struct Job: Sendable, Hashable, Identifiable {
    /// The job's id.
    public var id: UUID
    /// The kind of work, which a handler runs.
    public var kind: String
    /// The user on whose behalf the job runs.
    public var userID: String
    /// The job's queue.
    public var queue: String
    /// −100 to 100, higher first within a user and queue.
    public var priority: Int
    /// Where the job is in its life.
    public var state: JobState
    /// Counts the lifecycle events of the job, from 1, without gaps.
    public var sequence: Int
    /// When it was committed, by the database's clock, as all times of the service.
    public var createdAt: Date
    /// When it may start, or might have started, at the earliest.
    public var dueAt: Date
    /// The start of the latest attempt. Nil before the first.
    public var startedAt: Date?
    /// When it became final. Nil before.
    public var finishedAt: Date?
    /// The number of the latest attempt. 0 before the first.
    public var attempt: Int
    /// The number of attempts that it has in all; each retry adds as many again.
    public var maxAttempts: Int
    /// The delays between attempts.
    public var retryPolicy: JobRequest.RetryPolicy
    /// The hard limit of one attempt. Nil: that of the kind.
    public var timeout: Duration?
    /// After this time an attempt is asked to wrap up. Nil: that of the kind, if it has one.
    public var softTimeout: Duration?
    /// Labels to find the job again.
    public var labels: [String: String]
    /// The key that makes it unique among the user's jobs. Nil: there is none.
    public var idempotencyKey: String?
    /// It was asked to end, and still runs.
    public var isCancelRequested: Bool
    /// The latest progress of the latest attempt. Nil before the first report.
    public var progress: Progress?
    /// The result of a job that has succeeded. Nil in lists.
    public var result: JobPayload?
    /// Why the latest attempt failed. Nil if none did.
    public var failure: Failure?
    /// The last 1,000 attempts, oldest first. Empty but in the answer to `job(_:includingPayload:)`.
    public var attempts: [Attempt]
    /// The last 200 lines of its log, oldest first. Empty but in the answer to `job(_:includingPayload:)`.
    public var log: [LogLine]
    /// The payload. Nil unless it was asked for.
    public var payload: JobPayload?

    /// The progress of a running attempt.
    public struct Progress: Sendable, Hashable {
        /// The current activity. May be empty.
        public var stage: String
        /// 0 to 1.
        public var fraction: Double
        /// For people. May be empty.
        public var message: String
        /// Steps done, of `steps`.
        public var step: Int
        /// Steps in all; 0: not counted.
        public var steps: Int
        /// When the service received the report, by the server's clock.
        public var updatedAt: Date
    }

    /// Why an attempt ended without success.
    public struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
        /// A word for programs: `failed`, `permanent`, `timeout`, `interrupted`, `cancelled`, `released`, or the handler's
        /// own.
        public var reason: String
        /// For people.
        public var message: String

        /// Both.
        public var description: String { "\(reason): \(message)" }
    }

    /// A line that a handler wrote.
    public struct LogLine: Sendable, Hashable {
        /// Counts up from 1 within a job, over all its attempts.
        public var number: Int
        /// When the service received it, by the server's clock.
        public var at: Date
        /// The attempt that wrote it.
        public var attempt: Int
        /// The weight of the line.
        public var level: JobLogLevel
        /// The line's text.
        public var message: String
    }

    /// One run of a job.
    public struct Attempt: Sendable, Hashable {
        /// The outcome of an attempt.
        public enum Outcome: String, Sendable, Hashable {
            /// It still runs.
            case running
            /// The handler returned a result.
            case succeeded
            /// The handler failed.
            case failed
            /// The hard timeout stopped it.
            case timedOut
            /// Its node died.
            case interrupted
            /// Its node shut down and gave it back; it does not count as an attempt.
            case released
            /// The job was cancelled while it ran.
            case cancelled
        }

        /// From 1. The number of a released run is used again by the next one.
        public var number: Int
        /// The name of the node that ran it. Empty for callers without the scope `admin`.
        public var node: String
        /// When the run was claimed.
        public var startedAt: Date
        /// When it ended. Nil while it runs.
        public var endedAt: Date?
        /// The outcome.
        public var outcome: Outcome
        /// Set unless it succeeded or still runs.
        public var failure: Failure?
    }
}

/// Where a job is in its life.
public enum JobState: String, Sendable, Hashable, CaseIterable {
    /// It waits: for a free slot, for its user's limit, or for its due time.
    case pending
    /// A node runs it.
    case running
    /// It is done, and has a result.
    case succeeded
    /// It has no attempts left, or has failed for good.
    case failed
    /// It was cancelled before or while it ran.
    case cancelled

    /// Whether only a retry changes the job from now on.
    public var isFinal: Bool {
        switch self {
        case .pending, .running: false
        case .succeeded, .failed, .cancelled: true
        }
    }
}
