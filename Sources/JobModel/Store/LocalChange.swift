/// A change that this node has made, passed on once it is durable. Progress and log lines are also passed on before
/// they are saved. What other nodes have changed is a `RemoteChange`.
package enum LocalChange: Sendable {
    /// A lifecycle event.
    case event(JobEvent, JobKey)
    /// Progress, when it is reported and once more when it is saved.
    case progress(ClaimedRun, Progress, isSaved: Bool = false)
    /// Log lines, when they are written and once more when they are saved.
    case log(JobKey, [LogLine], isSaved: Bool)
    /// A write failed, and it is unknown whether it took effect.
    case uncertain
    /// A run, which is on `node`, was asked to stop.
    case cancelRequested(JobKey, RunFence, node: Int32, note: String)
}
