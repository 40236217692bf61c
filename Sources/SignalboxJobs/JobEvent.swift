public import Foundation

/// A lifecycle change of one job.
public struct JobEvent: Sendable, Hashable {
    /// The kind of change.
    public enum Kind: String, Sendable, Hashable, CaseIterable {
        /// It was committed.
        case enqueued
        /// An attempt began.
        case started
        /// An attempt failed, timed out or was interrupted; another one follows at `dueAt`.
        case retryScheduled = "retry_scheduled"
        /// Its node shut down and gave it back.
        case released
        /// It is final, with a result.
        case succeeded
        /// It is final, without success.
        case failed
        /// It is final, because it was cancelled.
        case cancelled
        /// A retry put it back.
        case retried
        /// Its handler was asked to stop.
        case cancelRequested = "cancel_requested"
    }

    /// The job's id.
    public var jobID: UUID
    /// One more than that of the job's event before.
    public var sequence: Int
    /// The kind of change. Nil for one that this version does not know; the state and the sequence are valid for it too.
    public var kind: Kind?
    /// The state of the job after the change.
    public var state: JobState
    /// When it happened, by the database's clock.
    public var at: Date
    /// The attempt that it is about; 0 if none.
    public var attempt: Int
    /// The node that it happened on. Nil if none, and for callers without the scope `admin`.
    public var node: String?
    /// Why, where an attempt ended without success.
    public var failure: Job.Failure?
    /// When the next attempt may start, where the job waits.
    public var dueAt: Date?
    /// The result of a job that succeeded, when it has at most 64 KiB.
    public var result: JobPayload?
    /// The job's kind.
    public var jobKind: String
    /// The user on whose behalf the job runs.
    public var userID: String
    /// The job's queue.
    public var queue: String
}

/// One element of a watch.
public enum JobUpdate: Sendable, Hashable {
    /// A job at the moment at which the watch begins, or after events that it has missed. Without its history.
    case snapshot(Job)
    /// A lifecycle change. Each is given once, in order.
    case event(JobEvent)
    /// The latest progress of a running job. Reports in between may be left out.
    case progress(jobID: UUID, attempt: Int, Job.Progress)
    /// Lines of a job's log, in order. A slow reader may miss some.
    case log(jobID: UUID, [Job.LogLine])
    /// The job does not exist, or was removed after its retention. No more updates of it follow. The other jobs of the watch
    /// go on.
    case removed(jobID: UUID)
    /// Every job that existed when the watch began has had its snapshot. Given once.
    case isCurrent
}
