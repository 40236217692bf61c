/// A run as claimed: what a worker needs, and what every later write of it names. A class, for it goes through many
/// hands, and a copy of it would be many.
package final class ClaimedRun: Sendable {
    package let key: JobKey
    package let spec: JobSpec
    /// Grows with every claim; a write with an older one touches nothing.
    package let token: Int64
    package let attempt: Int
    /// Budget of the job in all, so that it grows with every Retry.
    package let maxAttempts: Int
    package let sequence: Int64
    package let startedAt: Timestamp
    package let checkpoint: [UInt8]?
    /// Of the last log line that an attempt before wrote.
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

    /// Attempts since the last Retry, this one included.
    package var attemptOfBudget: Int { attempt - (maxAttempts - spec.maxAttempts) }

    package func startedEvent(node: String) -> JobEvent {
        JobEvent(
            jobID: key.id, sequence: sequence, type: .started, at: startedAt, attempt: attempt, node: node,
            kind: spec.kind, userID: spec.userID, queue: spec.queue)
    }
}
