/// The end of a run as the worker saw it.
package enum RunEnd: Sendable, Equatable {
    case succeeded(JobResult)
    /// The handler threw an error. The cause `handlerPermanent` rules out another attempt.
    case failed(JobError, retryAfter: Duration?)
    /// The hard timeout stopped the run.
    case timedOut
    /// The run was stopped because the job was cancelled.
    case cancelled(note: String)
    /// The node shuts down and releases the run.
    case released
    /// The node died.
    case interrupted(Interruption)
}

/// The decision about a run that ended, which is written.
package enum Verdict: Sendable, Equatable {
    /// The job becomes final, by an event that leads to a final state.
    case final(JobEventType, JobError?, JobResult?)
    /// The job waits again, after a delay. Nil: the end of the run is not the job's fault, and it keeps the due time that it
    /// had, so that it goes before those that came later. `countsAttempt` is false for a run that was released.
    case again(JobEventType, JobError, after: Duration?, countsAttempt: Bool)
}

/// The rules for what the end of a run means for its job. It is not decided anywhere else.
package enum OutcomeRules {
    /// - Parameters:
    ///   - attemptsUsed: how many attempts of the budget are used up, the one that ended included.
    ///   - maxAttempts: the budget.
    ///   - random: a number in 0 ..< 1 for the policy's jitter. It costs a system call, so it is only evaluated
    ///     when it is needed.
    package static func verdict(
        of end: RunEnd, attemptsUsed: Int, maxAttempts: Int, policy: RetryPolicy,
        random: @autoclosure () -> Double
    ) -> Verdict {
        func retried(_ error: JobError, after delay: () -> Duration?) -> Verdict {
            guard attemptsUsed < maxAttempts else { return .final(.failed, error, nil) }
            return .again(.retryScheduled, error, after: delay(), countsAttempt: true)
        }
        func policyDelay() -> Duration { policy.delay(afterFailures: attemptsUsed, random: random()) }
        switch end {
        case .succeeded(let result):
            return .final(.succeeded, nil, result)
        case .failed(let error, _) where error.cause == .handlerPermanent:
            return .final(.failed, error, nil)
        case .failed(let error, let retryAfter):
            // A handler may return any delay, but the database cannot store every one.
            return retried(error) {
                retryAfter.map { min(max(.zero, $0), JobLimits.retryDelayMax) } ?? policyDelay()
            }
        case .timedOut:
            return retried(
                JobError(message: "the attempt exceeded its timeout", cause: .timeout), after: policyDelay)
        case .cancelled(let note):
            return .final(.cancelled, JobError(message: note, cause: .cancelled), nil)
        case .released:
            return .again(
                .released, JobError(message: "the node that ran the attempt shut down", cause: .released),
                after: nil, countsAttempt: false)
        case .interrupted(.fail):
            return .final(
                .failed, JobError(message: "the node that ran the attempt died", cause: .interrupted), nil)
        case .interrupted(.retry):
            return retried(
                JobError(message: "the node that ran the attempt died", cause: .interrupted), after: { nil })
        }
    }
}

extension Attempt.Outcome {
    /// The outcome of an attempt that an event ended; nil for an event that ends no attempt.
    ///
    /// - Parameter cause: the cause of the event's error.
    package init?(endedBy type: JobEventType, cause: FailureCause?) {
        switch type {
        case .succeeded: self = .succeeded
        case .cancelled: self = .cancelled
        case .released: self = .released
        case .retryScheduled, .failed:
            switch cause {
            case .timeout: self = .timedOut
            case .interrupted: self = .interrupted
            case .handler, .handlerPermanent, .cancelled, .released, nil: self = .failed
            }
        case .enqueued, .started, .retried, .cancelRequested: return nil
        }
    }
}
