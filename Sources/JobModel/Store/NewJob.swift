/// A job on its way in. A class, for it goes through many hands, and a copy of it would be many.
package final class NewJob: Sendable {
    package let spec: JobSpec
    package let id: JobID
    package let caller: Caller

    /// With the caller's id, or a new one. Its user is one for whom the caller may act.
    package init(spec: JobSpec, now: Timestamp, by caller: Caller) {
        self.spec = spec
        self.id = spec.jobID ?? .version7(at: now)
        self.caller = caller
    }

    /// Ids of our own making are new.
    package var mayConflict: Bool { spec.jobID != nil || spec.idempotencyKey != nil }
}

/// What became of it.
package struct Enqueued: Sendable {
    package var job: JobRecord
    /// False: it was there before, with the same content.
    package var isNew: Bool

    package init(job: JobRecord, isNew: Bool) {
        self.job = job
        self.isNew = isNew
    }
}
