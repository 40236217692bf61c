package import Support

/// Where a job is in its life. The table of transitions says how it changes (`JobEventType.from` and `to`).
package enum JobState: String, Sendable, Hashable, CaseIterable {
    /// It waits until it is due and a node has a free slot.
    case pending
    /// A node runs it.
    case running
    case succeeded
    case failed
    case cancelled

    /// Whether nothing but a call of Retry changes it any more.
    package var isFinal: Bool {
        switch self {
        case .pending, .running: false
        case .succeeded, .failed, .cancelled: true
        }
    }
}

/// What happened to a job. The raw values are stored.
package enum JobEventType: String, Sendable, Hashable, CaseIterable {
    case enqueued
    case started
    /// The attempt failed, timed out or was interrupted, and another one follows.
    case retryScheduled = "retry_scheduled"
    /// The node gave the run back; it does not count as an attempt.
    case released
    case succeeded
    case failed
    case cancelled
    /// Retry was called on a final job.
    case retried
}

/// One lifecycle change of one job.
package struct JobEvent: Sendable, Hashable {
    package var jobID: JobID
    /// From 1, without gaps within a job.
    package var sequence: Int64
    package var type: JobEventType
    /// The database's clock.
    package var at: Timestamp
    package var attempt: Int
    package var node: String?
    package var error: JobError?
    package var dueAt: Timestamp?
    package var result: JobResult?
    package var kind: String
    package var userID: ExactText
    package var queue: String

    /// The state of the job from this event on.
    package var state: JobState { type.to }

    package init(
        jobID: JobID, sequence: Int64, type: JobEventType, at: Timestamp, attempt: Int,
        node: String? = nil, error: JobError? = nil, dueAt: Timestamp? = nil, result: JobResult? = nil,
        kind: String, userID: ExactText, queue: String
    ) {
        self.jobID = jobID
        self.sequence = sequence
        self.type = type
        self.at = at
        self.attempt = attempt
        self.node = node
        self.error = error
        self.dueAt = dueAt
        self.result = result
        self.kind = kind
        self.userID = userID
        self.queue = queue
    }
}
