import JobModel
import Logging
import Metrics

/// The parts that all runs of a node share.
final class RunContext: Sendable {
    let store: any EngineStore
    let runtime: EngineRuntime
    /// The node's name.
    let node: String
    /// The time that a stopped run may still take.
    let grace: Duration
    let logger: Logger
    /// Publishes an update of a run before it is saved, and wakes `RunUpdateWriter`.
    let publish: @Sendable (LocalChange) -> Void
    private let succeeded = Counter(label: "signalbox_jobs_succeeded_total")
    private let failedAttempts = Counter(label: "signalbox_attempts_failed_total")

    init(
        store: any EngineStore, runtime: EngineRuntime, node: String, grace: Duration, logger: Logger,
        publish: @escaping @Sendable (LocalChange) -> Void
    ) {
        self.store = store
        self.runtime = runtime
        self.node = node
        self.grace = grace
        self.logger = logger
        self.publish = publish
    }

    func count(_ end: RunEnd) {
        switch end {
        case .succeeded: succeeded.increment()
        case .failed, .timedOut: failedAttempts.increment()
        case .cancelled, .released, .interrupted: break
        }
    }
}
