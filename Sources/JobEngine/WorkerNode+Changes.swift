import JobModel

/// A change feed calls `receive` with what this node commits, and this with what other nodes do.
extension WorkerNode: ChangeSubscriber {
    package func wake(hasCancels: Bool) { hint(hasCancels: hasCancels) }
}
