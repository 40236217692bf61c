package import Support

/// The state of a job. The table of transitions says how it changes (`JobEventType.from` and `to`).
package enum JobState: String, Sendable, Hashable, CaseIterable {
    /// The job waits until it is due and a node has a free slot.
    case pending
    /// A node runs the job.
    case running
    case succeeded
    case failed
    case cancelled

    /// Whether only a call of Retry can change the state.
    package var isFinal: Bool {
        switch self {
        case .pending, .running: false
        case .succeeded, .failed, .cancelled: true
        }
    }
}

/// The kinds of events of a job. The raw values are stored.
package enum JobEventType: String, Sendable, Hashable, CaseIterable {
    case enqueued
    case started
    /// The attempt failed, timed out or was interrupted, and another attempt follows.
    case retryScheduled = "retry_scheduled"
    /// The node gave the run back. The run does not count as an attempt.
    case released
    case succeeded
    case failed
    case cancelled
    /// Retry was called on a final job.
    case retried
    /// Cancel was called on a running job, whose handler is asked to stop.
    case cancelRequested = "cancel_requested"
}

/// One change in the lifecycle of a job.
package struct JobEvent: Sendable, Hashable {
    package var jobID: JobID
    /// The number of the event within its job, from 1 without gaps.
    package var sequence: Int64
    /// The type as the server has sent it. Nil if this version does not know it, which only a client meets.
    package var type: JobEventType?
    /// The state of the job from this event on.
    package var state: JobState
    /// The time of the event, by the database's clock.
    package var at: Timestamp
    package var attempt: Int
    package var node: String?
    package var error: JobError?
    package var dueAt: Timestamp?
    package var result: JobResult?
    package var kind: String
    package var userID: ExactText
    package var queue: String

    /// An event of a known type, from which the state follows.
    package init(
        jobID: JobID, sequence: Int64, type: JobEventType, at: Timestamp, attempt: Int,
        node: String? = nil, error: JobError? = nil, dueAt: Timestamp? = nil, result: JobResult? = nil,
        kind: String, userID: ExactText, queue: String
    ) {
        self.init(
            jobID: jobID, sequence: sequence, type: type, state: type.to, at: at, attempt: attempt,
            node: node,
            error: error, dueAt: dueAt, result: result, kind: kind, userID: userID, queue: queue)
    }

    /// An event as a server has sent it.
    package init(
        jobID: JobID, sequence: Int64, type: JobEventType?, state: JobState, at: Timestamp, attempt: Int,
        node: String?, error: JobError?, dueAt: Timestamp?, result: JobResult?, kind: String,
        userID: ExactText, queue: String
    ) {
        self.jobID = jobID
        self.sequence = sequence
        self.type = type
        self.state = state
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
