package import JobModel

/// Something that a commit of this node made true, told once it is durable.
package enum Notice: Sendable {
    /// A lifecycle event.
    case event(JobEvent, JobKey)
    /// As it is said, and once more when it is saved.
    case progress(JobKey, attempt: Int, Progress, isSaved: Bool = false)
    /// Lines as they are said, one after the other, and once more when they are saved.
    case log(JobKey, [LogLine], isSaved: Bool)
    /// A write failed in a way that leaves open whether it took place.
    case uncertain
    /// Somebody wants this run to stop, which is on `node`.
    case cancelRequested(JobKey, token: Int64, node: Int32, reason: String)
}

/// How the store names a job, and the lane that it is in.
package struct JobKey: Sendable, Hashable {
    package var number: Int64
    package var lane: Int64
    package var id: JobID

    package init(number: Int64, lane: Int64, id: JobID) {
        self.number = number
        self.lane = lane
        self.id = id
    }
}
