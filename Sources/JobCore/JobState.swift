package import Support

/// Where a job is in its life, and every way it may move. `docs/job-lifecycle.md` draws this
/// machine; the database holds the same arrows with constraints (see `JobStore`'s migrations).
///
///                 enqueued
///                    │
///                    ▼     claimed
///      ┌─────────▶ pending ─────────▶ running ──▶ succeeded
///      │             │  ▲               │ │
///      │   cancelled │  └── retry, ─────┘ ├────▶ failed
///      │             ▼      released,      │        │
///      │ retried  cancelled interrupted    └▶ cancelled
///      └──────────────┴──────────────────────────────┘
package enum JobState: String, Sendable, Hashable, CaseIterable {
    /// Waits. Exits: `running` (claimed), `cancelled`.
    case pending
    /// A node runs it. Exits: `succeeded`, `failed`, `cancelled`, `pending`.
    case running
    /// Final. No exit.
    case succeeded
    /// Final. Exit: `pending`, only by a call of Retry.
    case failed
    /// Final. Exit: `pending`, only by a call of Retry.
    case cancelled

    package var isFinal: Bool {
        switch self {
        case .pending, .running: false
        case .succeeded, .failed, .cancelled: true
        }
    }

    /// The state after `event`, or nil where there is no such arrow.
    package func after(_ event: JobEventType) -> JobState? {
        switch (self, event) {
        case (.pending, .started): .running
        case (.pending, .cancelled), (.running, .cancelled): .cancelled
        case (.running, .retryScheduled), (.running, .released): .pending
        case (.running, .succeeded): .succeeded
        case (.running, .failed): .failed
        case (.failed, .retried), (.cancelled, .retried): .pending
        default: nil
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
    package var state: JobState
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

    package init(
        jobID: JobID, sequence: Int64, type: JobEventType, state: JobState, at: Timestamp, attempt: Int,
        node: String? = nil, error: JobError? = nil, dueAt: Timestamp? = nil, result: JobResult? = nil,
        kind: String, userID: ExactText, queue: String
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
