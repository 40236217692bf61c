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
