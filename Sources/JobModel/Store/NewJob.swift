/// A job to be enqueued. It is a class because it is passed around much, and copying it would be expensive.
package final class NewJob: Sendable {
    package let spec: JobSpec
    package let id: JobID
    package let caller: Caller

    /// Takes the caller's id or makes a new one. The spec's user must be one for whom the caller may act.
    package init(spec: JobSpec, now: Timestamp, by caller: Caller) {
        self.spec = spec
        self.id = spec.jobID ?? .version7(at: now)
        self.caller = caller
    }

    /// Whether another job may have the same id or key. Ids that the server makes are new.
    package var mayConflict: Bool { spec.jobID != nil || spec.idempotencyKey != nil }
}

/// The result of enqueueing a job.
package struct Enqueued: Sendable {
    package var job: JobRecord
    /// Whether the job was added. Otherwise it existed already, with the same content.
    package var isNew: Bool

    package init(job: JobRecord, isNew: Bool) {
        self.job = job
        self.isNew = isNew
    }
}

extension Enqueued {
    package var disposition: EnqueueDisposition { isNew ? .created : .sameRequest }
}

/// The result of enqueueing a job of a batch.
package struct EnqueuedItem: Sendable {
    package var id: JobID
    /// Whether the job was added. Otherwise it existed already, with the same content.
    package var isNew: Bool
    /// The number of the job's last event; 1 for a new job.
    package var sequence: Int64

    package init(id: JobID, isNew: Bool, sequence: Int64) {
        self.id = id
        self.isNew = isNew
        self.sequence = sequence
    }

    package var disposition: EnqueueDisposition { isNew ? .created : .sameRequest }
}
