/// How the run of an attempt ended, as the worker saw it.
package enum RunEnd: Sendable, Equatable {
    case succeeded(JobResult)
    /// The handler failed.
    case failed(JobError, isPermanent: Bool, retryAfter: Duration?)
    /// The hard timeout stopped it.
    case timedOut
    /// It stopped because somebody cancelled the job.
    case cancelled(reason: String)
    /// The node shuts down and gives it back.
    case released
    /// Its node died.
    case interrupted(Interruption)
}

/// What is written at the end of a run.
package enum Verdict: Sendable, Equatable {
    /// The job is final, by an event that leads to a final state.
    case final(JobEventType, JobError?, JobResult?)
    /// The job waits again. `countsAttempt` is false for a run that was given back.
    case again(JobEventType, JobError, after: Duration, countsAttempt: Bool)
}

/// The one place where it is decided what the end of a run means for its job.
package enum OutcomeRules {
    /// - Parameters:
    ///   - attempt: the attempt that ended, from 1, counted from the job's last Retry.
    ///   - random: 0 ..< 1, for the policy's jitter. Only asked for where there is some: it costs a system call.
    package static func verdict(
        of end: RunEnd, attempt: Int, maxAttempts: Int, policy: RetryPolicy, random: @autoclosure () -> Double
    ) -> Verdict {
        func retried(_ error: JobError, after delay: Duration?) -> Verdict {
            guard attempt < maxAttempts else { return .final(.failed, error, nil) }
            // A handler may name any delay; the database has no time for every one.
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
            // The work is not to blame: no delay.
            return retried(
                JobError(reason: JobError.reasonInterrupted, message: "its node died"), after: .zero)
        }
    }
}

extension Attempt.Outcome {
    /// The outcome of an attempt that an event ended; nil for an event that ends no attempt.
    ///
    /// - Parameter reason: that of the event's error. Handlers choose their own, so any word but ours is a failure.
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
        case .enqueued, .started, .retried: return nil
        }
    }
}
