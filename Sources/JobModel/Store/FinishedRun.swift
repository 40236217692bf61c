/// A run that has ended, with the verdict that is to be written.
package struct FinishedRun: Sendable {
    package var run: ClaimedRun
    /// The name of the node that ran it.
    package var node: String
    package var verdict: Verdict

    package init(_ run: ClaimedRun, node: String, verdict: Verdict) {
        self.run = run
        self.node = node
        self.verdict = verdict
    }

    package var key: JobKey { run.key }
    package var fence: RunFence { run.fence }
}

/// The result of writing the end of a run.
package enum FinishResult: Sendable, Equatable {
    case written
    /// The run was to be tried again, but its cancellation has been requested. Nothing was written; the caller
    /// must end it as cancelled.
    case cancelRequested(note: String)
    /// The run has lost its lease. Nothing was written.
    case stale
}
