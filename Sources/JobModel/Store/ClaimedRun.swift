/// Names one run in every write about it.
///
/// The number of its job and its token do not suffice. A database that comes back without its last commits, after a failover
/// or a restore, gives both again, to the run of another job. That one has another start.
package struct RunFence: Sendable, Hashable {
    /// The job's number in the database.
    package let number: Int64
    /// The run's fencing token.
    package let token: Int64
    /// By the database's clock, to the microsecond.
    package let startedAt: Timestamp

    package init(number: Int64, token: Int64, startedAt: Timestamp) {
        self.number = number
        self.token = token
        self.startedAt = startedAt
    }
}

/// A claimed run: the data that a worker needs, and those that every later write of the run names. It is a class
/// because it is passed around much, and copying it would be expensive.
package final class ClaimedRun: Sendable {
    package let key: JobKey
    package let spec: JobSpec
    /// The run's fencing token. It grows with every claim, and a write with an older one has no effect.
    package let token: Int64
    /// The number of this attempt. Each start of the job has the next one.
    package let attempt: Int
    /// The number of the last attempt that the budget allows. It grows with each release and each Retry.
    package let lastAttempt: Int
    package let sequence: Int64
    package let startedAt: Timestamp
    package let checkpoint: [UInt8]?
    /// The number of the last log line of earlier attempts.
    package let lastLogLine: Int64

    package init(
        key: JobKey, spec: JobSpec, token: Int64, attempt: Int, lastAttempt: Int, sequence: Int64,
        startedAt: Timestamp, checkpoint: [UInt8]? = nil, lastLogLine: Int64
    ) {
        self.key = key
        self.spec = spec
        self.token = token
        self.attempt = attempt
        self.lastAttempt = lastAttempt
        self.sequence = sequence
        self.startedAt = startedAt
        self.checkpoint = checkpoint
        self.lastLogLine = lastLogLine
    }

    package var fence: RunFence { RunFence(number: key.number, token: token, startedAt: startedAt) }

    /// The attempts of the budget that are used up, this one included and released ones not. From 1.
    package var attemptsUsed: Int {
        spec.attemptsUsed(attempt: attempt, lastAttempt: lastAttempt)
    }

    package func startedEvent(node: String) -> JobEvent {
        JobEvent(
            jobID: key.id, sequence: sequence, type: .started, at: startedAt, attempt: attempt, node: node,
            kind: spec.kind, userID: spec.userID, queue: spec.queue)
    }
}
