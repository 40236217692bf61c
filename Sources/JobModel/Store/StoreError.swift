package import Support

/// Why the store could not do what it was asked to.
package enum StoreError: Error, Sendable, Equatable {
    /// The database cannot be reached, or did not answer in time; whether a write took place is not known.
    case unavailable(String)
    /// Too much waits to be written; nothing was started.
    case overloaded
    /// The caller's task was cancelled; nothing was started.
    case cancelled
    /// The id or the idempotency key belongs to a job with other content. `index` is that in a batch.
    case conflict(JobID, index: Int)
    /// The job's user would have had jobs in more queues than one may (`JobLimits.queuesPerUserMax`).
    case tooManyQueues(userID: ExactText)
    case notFound
    /// The job is not in a state that allows it.
    case wrongState(JobState)
    /// The run has lost its lease: nothing was written.
    case stale
    /// The database's schema is not ours.
    case schema(String)
    /// A bug of ours, or of the database; or a value that a newer version has written, which it names.
    case broken(String)
}
