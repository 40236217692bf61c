/// Decides when a run is asked to finish, is stopped, and is abandoned. Pure: time is an argument.
///
///     running ──soft──▶ running ──stop──▶ stopping ──grace over──▶ abandoned
///        └───────────────ended◀──────────────┘
package struct RunSupervision: Sendable {
    package enum StopReason: Sendable, Equatable {
        case timeout
        case cancelled(note: String)
        /// The node shuts down.
        case released
        /// The node could not renew its lease, so the run may soon belong to another node.
        case leaseLost
    }

    package enum Action: Sendable, Equatable {
        case softTimeout
        /// The handler's task is to be cancelled.
        case stop
        /// The handler did not end in time. The node goes on without it.
        case abandon
    }

    private enum State: Sendable {
        /// The handler runs. Becomes `stopping`.
        case running
        /// The handler was asked to end. Becomes `abandoned`.
        case stopping(StopReason, abandonAt: ContinuousClock.Instant)
        /// The handler is left behind. Final.
        case abandoned(StopReason)
    }

    private var state = State.running
    private var softAt: ContinuousClock.Instant?
    /// The time at which the hard timeout stops the run.
    package let deadline: ContinuousClock.Instant
    private let grace: Duration

    package init(
        now: ContinuousClock.Instant, timeout: Duration, softTimeout: Duration?, grace: Duration
    ) {
        deadline = now + timeout
        softAt = softTimeout.map { now + $0 }
        self.grace = grace
    }

    package var stopReason: StopReason? {
        switch state {
        case .running: nil
        case .stopping(let reason, _), .abandoned(let reason): reason
        }
    }

    package mutating func tick(_ now: ContinuousClock.Instant) -> Action? {
        switch state {
        case .running:
            if now >= deadline { return stop(.timeout, now: now) }
            if let soft = softAt, now >= soft {
                softAt = nil
                return .softTimeout
            }
            return nil
        case .stopping(let reason, let abandonAt):
            guard now >= abandonAt else { return nil }
            state = .abandoned(reason)
            return .abandon
        case .abandoned:
            return nil
        }
    }

    /// Stops the run. The first reason is kept, except that a lost lease replaces it. A later call can only
    /// shorten the grace time.
    package mutating func stop(
        _ reason: StopReason, now: ContinuousClock.Instant, grace limit: Duration? = nil
    ) -> Action? {
        let abandonAt = now + min(grace, limit ?? grace)
        switch state {
        case .running:
            state = .stopping(reason, abandonAt: abandonAt)
            return .stop
        case .stopping(let first, let earlier):
            // After a lost lease nothing may be written, so it takes precedence over other reasons.
            let kept = reason == .leaseLost ? reason : first
            state = .stopping(kept, abandonAt: min(earlier, abandonAt))
            return nil
        case .abandoned:
            if reason == .leaseLost { state = .abandoned(.leaseLost) }
            return nil
        }
    }

    /// The end of the run, from the handler's result. Nil: nothing is to be written, because the run no longer
    /// belongs to this node.
    package func end(_ result: Result<JobResult, RunEndError>) -> RunEnd? {
        switch (stopReason, result) {
        case (.leaseLost, _): nil
        case (.timeout, _): .timedOut
        case (.cancelled(let note), _): .cancelled(note: note)
        case (.released, .success(let value)), (nil, .success(let value)): .succeeded(value)
        case (.released, .failure): .released
        case (nil, .failure(let error)):
            .failed(error.error, retryAfter: error.retryAfter)
        }
    }
}

/// The reason why a handler did not return a result.
package struct RunEndError: Error, Sendable, Equatable {
    /// Its cause is `handler` or `handlerPermanent`.
    package var error: JobError
    package var retryAfter: Duration?

    package init(error: JobError, retryAfter: Duration? = nil) {
        self.error = error
        self.retryAfter = retryAfter
    }
}
