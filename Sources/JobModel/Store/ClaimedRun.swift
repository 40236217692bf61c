/// A claimed run: the data that a worker needs, and those that every later write of the run names. It is a class
/// because it is passed around much, and copying it would be expensive.
package final class ClaimedRun: Sendable {
    package let key: JobKey
    package let spec: JobSpec
    /// The run's fencing token. It grows with every claim, and a write with an older one has no effect.
    package let token: Int64
    package let attempt: Int
    /// The total number of attempts that the job may have, which grows with every Retry.
    package let maxAttempts: Int
    package let sequence: Int64
    package let startedAt: Timestamp
    package let checkpoint: [UInt8]?
    /// The number of the last log line of earlier attempts.
    package let lastLogLine: Int64

    package init(
        key: JobKey, spec: JobSpec, token: Int64, attempt: Int, maxAttempts: Int, sequence: Int64,
        startedAt: Timestamp, checkpoint: [UInt8]? = nil, lastLogLine: Int64
    ) {
        self.key = key
        self.spec = spec
        self.token = token
        self.attempt = attempt
        self.maxAttempts = maxAttempts
        self.sequence = sequence
        self.startedAt = startedAt
        self.checkpoint = checkpoint
        self.lastLogLine = lastLogLine
    }

    /// The number of this attempt since the last Retry, from 1.
    package var attemptOfBudget: Int { attempt - (maxAttempts - spec.maxAttempts) }

    package func startedEvent(node: String) -> JobEvent {
        JobEvent(
            jobID: key.id, sequence: sequence, type: .started, at: startedAt, attempt: attempt, node: node,
            kind: spec.kind, userID: spec.userID, queue: spec.queue)
    }
}
