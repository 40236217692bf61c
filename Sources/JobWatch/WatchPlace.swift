package import JobModel
package import Support

/// The place that a watch has reached: everything before it was sent, so that a later watch of the same subject can
/// begin here.
package enum WatchPlace: Sendable, Hashable {
    /// The place in each job that the watch names.
    case jobs([JobID: JobPlace])
    /// In the change log, of a watch of a user or a queue.
    case changes(ChangePlace)
}

/// The place that a watch has reached in one job.
package enum JobPlace: Sendable, Hashable {
    /// The last event and the last log line that were sent; 0: none. `number` is the job's in the database: the id may be
    /// that of another job later, when this one was removed.
    case sent(number: Int64, sequence: Int64, logLine: Int64)
    /// The watch has said that the job does not exist.
    case removed
}

/// The jobs that a watch is for, as its caller has written them.
package enum WatchSubject: Sendable, Hashable {
    /// Named jobs, in any order.
    case jobs([JobID])
    case all(userID: ExactText?, queue: String?)
}
