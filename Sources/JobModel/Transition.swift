/// The table of transitions: for each type of event, the states that a job may leave by it and the one that it enters.
/// There is no other way for a job to change its state. Events get their state from here, `docs/job-lifecycle.md` shows
/// the same table, and tests compare it with that page and with what each SQL statement does.
extension JobEventType {
    /// The states in which the event may happen; empty for the event that creates the job.
    package var from: [JobState] {
        switch self {
        case .enqueued: []
        case .started: [.pending]
        case .retryScheduled, .released, .succeeded, .failed, .cancelRequested: [.running]
        case .cancelled: [.pending, .running]
        case .retried: [.failed, .cancelled]
        }
    }

    /// The state of the job from this event on.
    package var to: JobState {
        switch self {
        case .enqueued, .retryScheduled, .released, .retried: .pending
        case .started, .cancelRequested: .running
        case .succeeded: .succeeded
        case .failed: .failed
        case .cancelled: .cancelled
        }
    }
}
