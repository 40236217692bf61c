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
    /// The number of the latest attempt; 0 before the first. It counts every start, and is never used again.
    public var attempt: Int
    /// The attempts of `maxAttempts` that are used up since the job was enqueued or last retried. A running attempt counts,
    /// and a released one does not.
    public var attemptsUsed: Int
    /// The budget of attempts.
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
    /// The last 100 attempts, oldest first; `attempts(of:)` gives all of them. Empty except in what
    /// `job(_:includingPayload:)` returns.
    public var attempts: [Attempt]
    /// The last 200 lines of the log, oldest first. Empty except in what `job(_:includingPayload:)` returns.
    public var log: [LogLine]
    /// The payload. Nil unless it was asked for.
    public var payload: JobPayload?

    /// The progress of a running attempt.
    public struct Progress: Sendable, Hashable {
        /// The current activity. May be empty.
        public var stage: String
        /// The part of the whole attempt that is done, 0 to 1. Nil: not known.
        public var fraction: Double?
        /// A message for people. May be empty.
        public var message: String
        /// The number of steps, bytes or other units that are done, of `total`.
        public var done: Int
        /// The number of units; 0: they are not counted.
        public var total: Int
        /// When the service received the report, by the server's clock.
        public var updatedAt: Date
    }

    /// Why an attempt ended without success.
    public struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
        /// Why an attempt or a job ended without success, in the service's terms.
        public enum Cause: String, Sendable, Hashable, CaseIterable {
            /// The handler ended with an error. More attempts may follow.
            case handler
            /// The handler ended with an error, and said that another attempt would too.
            case handlerPermanent
            /// The hard timeout stopped the attempt.
            case timeout
            /// The node of the attempt died.
            case interrupted
            /// The job was cancelled.
            case cancelled
            /// The node shut down and released the run.
            case released
        }

        /// Nil for a cause that this version does not know.
        public var cause: Cause?
        /// A word for programs that the handler chose; empty if it chose none.
        public var reason: String
        /// A message for people.
        public var message: String

        /// The reason, or the cause if there is none, and the message.
        public var description: String {
            let word = reason.isEmpty ? cause?.rawValue ?? "unknown" : reason
            return message.isEmpty ? word : "\(word): \(message)"
        }
    }

    /// A line that a handler wrote.
    public struct LogLine: Sendable, Hashable {
        /// The number of the line within the job, from 1, over all attempts.
        public var number: Int
        /// When the service received the line, by the server's clock.
        public var at: Date
        /// The attempt that wrote the line.
        public var attempt: Int
        /// The level. Nil for one that this version does not know.
        public var level: JobLogLevel?
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
            /// The node shut down and released the run, which uses up no attempt of the budget.
            case released
            /// The job was cancelled while it ran.
            case cancelled
        }

        /// The number of the attempt, from 1. Each start of the job has the next number, so that a job's id and an attempt's
        /// number name one run.
        public var number: Int
        /// The name of the node that ran it. Empty for callers without the scope `admin`.
        public var node: String
        /// When the run was claimed.
        public var startedAt: Date
        /// When it ended. Nil while it runs.
        public var endedAt: Date?
        /// The outcome. Nil for one that this version does not know.
        public var outcome: Outcome?
        /// Why the attempt ended. Nil if it succeeded or still runs.
        public var failure: Failure?
        /// Whether the attempt uses up one of the job's `maxAttempts`. A released one does not.
        public var isCounted: Bool
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
