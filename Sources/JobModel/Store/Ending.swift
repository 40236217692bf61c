/// The end of a run, as it is to be written.
package struct Ending: Sendable {
    package var run: ClaimedRun
    /// The name of the node that it ran on.
    package var node: String
    package var verdict: Verdict

    package init(_ run: ClaimedRun, node: String, verdict: Verdict) {
        self.run = run
        self.node = node
        self.verdict = verdict
    }

    package var key: JobKey { run.key }
    package var token: Int64 { run.token }
}

/// What became of the end of a run.
package enum EndingOutcome: Sendable, Equatable {
    case written
    /// The run was to be tried again, but somebody has asked for its cancellation meanwhile: nothing was
    /// written, it is to be ended as cancelled.
    case cancelRequested(reason: String)
    /// The run has lost its lease: nothing was written.
    case stale
}
