/// The end of a run as the worker saw it.
package enum RunEnd: Sendable, Equatable {
    case succeeded(JobResult)
    /// The handler threw an error.
    case failed(JobError, isPermanent: Bool, retryAfter: Duration?)
    /// The hard timeout stopped the run.
    case timedOut
    /// The run was stopped because the job was cancelled.
    case cancelled(reason: String)
    /// The node shuts down and gives the run back.
    case released
    /// The node died.
    case interrupted(Interruption)
}

/// The decision about a run that ended, which is written.
package enum Verdict: Sendable, Equatable {
    /// The job becomes final, by an event that leads to a final state.
    case final(JobEventType, JobError?, JobResult?)
    /// The job waits again. `countsAttempt` is false for a run that was given back.
    case again(JobEventType, JobError, after: Duration, countsAttempt: Bool)
}

/// The rules for what the end of a run means for its job. It is not decided anywhere else.
package enum OutcomeRules {
    /// - Parameters:
    ///   - attempt: the attempt that ended, from 1, counted from the job's last Retry.
    ///   - random: a number in 0 ..< 1 for the policy's jitter. It costs a system call, so it is only evaluated
    ///     when it is needed.
    package static func verdict(
        of end: RunEnd, attempt: Int, maxAttempts: Int, policy: RetryPolicy, random: @autoclosure () -> Double
    ) -> Verdict {
        func retried(_ error: JobError, after delay: Duration?) -> Verdict {
            guard attempt < maxAttempts else { return .final(.failed, error, nil) }
            // A handler may return any delay, but the database cannot store every one.
            let wait =
                delay.map { min(max(.zero, $0), JobLimits.retryDelayMax) }
                ?? policy.delay(afterFailures: attempt, random: random())
            return .again(.retryScheduled, error, after: wait, countsAttempt: true)
        }
        switch end {
        case .succeeded(let result):
            return .final(.succeeded, nil, result)
        case .failed(let error, isPermanent: true, _):
            return .final(.failed, error, nil)
        case .failed(let error, isPermanent: false, let retryAfter):
            return retried(error, after: retryAfter)
        case .timedOut:
            return retried(
                JobError(reason: JobError.reasonTimeout, message: "the attempt ran into its timeout"),
                after: nil)
        case .cancelled(let reason):
            return .final(.cancelled, JobError(reason: JobError.reasonCancelled, message: reason), nil)
        case .released:
            return .again(
                .released, JobError(reason: JobError.reasonReleased, message: "its node shut down"),
                after: .zero, countsAttempt: false)
        case .interrupted(.fail):
            return .final(
                .failed, JobError(reason: JobError.reasonInterrupted, message: "its node died"), nil)
        case .interrupted(.retry):
            // The job did not cause the interruption, so there is no delay.
            return retried(
                JobError(reason: JobError.reasonInterrupted, message: "its node died"), after: .zero)
        }
    }
}

extension Attempt.Outcome {
    /// The outcome of an attempt that an event ended; nil for an event that ends no attempt.
    ///
    /// - Parameter reason: the reason of the event's error. Handlers choose their own words, so any word except
    ///   the service's own means a failure.
    package init?(endedBy type: JobEventType, reason: String?) {
        switch type {
        case .succeeded: self = .succeeded
        case .cancelled: self = .cancelled
        case .released: self = .released
        case .retryScheduled, .failed:
            switch reason {
            case JobError.reasonTimeout: self = .timedOut
            case JobError.reasonInterrupted: self = .interrupted
            default: self = .failed
            }
        case .enqueued, .started, .retried, .cancelRequested: return nil
        }
    }
}
