import JobModel
import Support
import Testing

@Suite struct OutcomeTests {
    private static let oops = JobError(message: "oops", cause: .handler)
    private static let never = JobError(message: "never", cause: .handlerPermanent)

    private func verdict(_ end: RunEnd, attempt: Int = 1, of maxAttempts: Int = 3) -> Verdict {
        OutcomeRules.verdict(
            of: end, attemptsUsed: attempt, maxAttempts: maxAttempts, policy: RetryPolicy(), random: 0.5)
    }

    @Test func success() {
        let result = JobResult(data: [1], contentType: "x")
        for attempt in 1...3 {
            #expect(verdict(.succeeded(result), attempt: attempt) == .final(.succeeded, nil, result))
        }
    }

    @Test func failureIsTriedAgainUpToTheBudget() {
        let end = RunEnd.failed(Self.oops, retryAfter: nil)
        #expect(
            verdict(end, attempt: 1)
                == .again(.retryScheduled, Self.oops, after: .seconds(5), countsAttempt: true))
        #expect(
            verdict(end, attempt: 2)
                == .again(.retryScheduled, Self.oops, after: .seconds(10), countsAttempt: true))
        #expect(verdict(end, attempt: 3) == .final(.failed, Self.oops, nil))
        #expect(verdict(end, attempt: 1, of: 1) == .final(.failed, Self.oops, nil))
        #expect(verdict(end, attempt: 100, of: 100) == .final(.failed, Self.oops, nil))
    }

    @Test func handlersOwnDelayGoesFirst() {
        let end = RunEnd.failed(Self.oops, retryAfter: .seconds(77))
        #expect(verdict(end) == .again(.retryScheduled, Self.oops, after: .seconds(77), countsAttempt: true))
        #expect(verdict(end, attempt: 3) == .final(.failed, Self.oops, nil))
    }

    @Test(arguments: [
        Duration.seconds(Int64.max / 1000), .seconds(1e13), JobLimits.retryDelayMax + .seconds(1),
    ])
    func handlersOwnDelayIsBounded(_ delay: Duration) {
        #expect(
            verdict(.failed(Self.oops, retryAfter: delay))
                == .again(.retryScheduled, Self.oops, after: JobLimits.retryDelayMax, countsAttempt: true))
    }

    @Test func negativeDelayIsNone() {
        #expect(
            verdict(.failed(Self.oops, retryAfter: .seconds(-5)))
                == .again(.retryScheduled, Self.oops, after: .zero, countsAttempt: true))
    }

    @Test func permanentFailureEndsAtOnce() {
        for delay in [nil, Duration.seconds(1)] {
            #expect(
                verdict(.failed(Self.never, retryAfter: delay)) == .final(.failed, Self.never, nil))
        }
    }

    @Test func timeoutIsAFailure() {
        guard case .again(.retryScheduled, let error, .seconds(5), countsAttempt: true) = verdict(.timedOut)
        else { return #expect(Bool(false), "not tried again") }
        #expect(error.cause == .timeout && error.reason.isEmpty)
        guard case .final(.failed, let last?, nil) = verdict(.timedOut, attempt: 3) else {
            return #expect(Bool(false), "not final")
        }
        #expect(last.cause == .timeout)
    }

    @Test func cancelIsFinalWhateverTheBudget() {
        for attempt in 1...3 {
            #expect(
                verdict(.cancelled(note: "why"), attempt: attempt)
                    == .final(.cancelled, JobError(message: "why", cause: .cancelled), nil))
        }
    }

    @Test func releaseCostsNoAttempt() {
        for attempt in 1...3 {
            guard
                case .again(.released, let error, nil, countsAttempt: false) = verdict(
                    .released, attempt: attempt)
            else { return #expect(Bool(false), "not released") }
            #expect(error.cause == .released)
        }
    }

    @Test func interruptionIsForTheKindToSay() {
        guard case .final(.failed, let error?, nil) = verdict(.interrupted(.fail)) else {
            return #expect(Bool(false), "not final")
        }
        #expect(error.cause == .interrupted)
        guard
            case .again(.retryScheduled, let again, nil, countsAttempt: true) = verdict(
                .interrupted(.retry))
        else { return #expect(Bool(false), "not at once") }
        #expect(again.cause == .interrupted)
        guard case .final(.failed, _, nil) = verdict(.interrupted(.retry), attempt: 3) else {
            return #expect(Bool(false), "over budget")
        }
    }

    @Test func outcomeOfAnAttempt() {
        #expect(Attempt.Outcome(endedBy: .succeeded, cause: nil) == .succeeded)
        #expect(Attempt.Outcome(endedBy: .cancelled, cause: .cancelled) == .cancelled)
        #expect(Attempt.Outcome(endedBy: .released, cause: .released) == .released)
        #expect(Attempt.Outcome(endedBy: .failed, cause: .timeout) == .timedOut)
        #expect(Attempt.Outcome(endedBy: .retryScheduled, cause: .interrupted) == .interrupted)
        #expect(Attempt.Outcome(endedBy: .failed, cause: .handlerPermanent) == .failed)
        #expect(Attempt.Outcome(endedBy: .retryScheduled, cause: .handler) == .failed)
        // An attempt ends with the event that leaves the state of a run, and with no other.
        for event in JobEventType.allCases {
            let endsAttempt = Attempt.Outcome(endedBy: event, cause: .timeout) != nil
            #expect(endsAttempt == (event.from.contains(.running) && event.to != .running), "\(event)")
        }
    }
}
