package import Support

/// The reason why an operation of the store failed.
package enum StoreError: Error, Sendable, Equatable {
    /// The database cannot be reached, or did not answer in time. It is unknown whether a write took effect.
    case unavailable(String)
    /// Too many writes wait already. Nothing was started.
    case overloaded
    /// The caller's task was cancelled. Nothing was started.
    case cancelled
    /// The id or the idempotency key belongs to a job with other content. `index` is the job's index in a batch.
    case conflict(JobID, index: Int)
    /// The job's user would have jobs in more queues than allowed (`JobLimits.queuesPerUserMax`).
    case tooManyQueues(userID: ExactText)
    case notFound
    /// The job's state does not allow the operation.
    case wrongState(JobState)
    /// The job does not have the sequence that the caller expects. Nothing was written.
    case sequenceMismatch(expected: Int64, actual: Int64)
    /// The run has lost its lease. Nothing was written.
    case stale
    /// The database has another schema than this program needs.
    case schema(String)
    /// A bug of this program or of the database, or a value that a newer version has written, which the text
    /// names.
    case broken(String)
}

extension StoreError {
    /// The error of a read that follows a committed change. Without its answer the caller cannot know of the change, so
    /// it must not look as if nothing had been done.
    package var afterWrite: StoreError {
        if case .overloaded = self {
            .unavailable("the change was made, but could not be read")
        } else {
            self
        }
    }
}
