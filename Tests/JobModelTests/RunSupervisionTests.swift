import JobModel
import Support
import Testing

@Suite struct RunSupervisionTests {
    private let start = ContinuousClock.now
    private let result = JobResult(data: [1], contentType: "x")
    private let failure = RunEndError(
        error: JobError(message: "m", cause: .handlerPermanent), retryAfter: .seconds(1))

    private func supervision(soft: Duration? = .seconds(5)) -> RunSupervision {
        RunSupervision(now: start, timeout: .seconds(10), softTimeout: soft, grace: .seconds(3))
    }

    private func at(_ seconds: Double) -> ContinuousClock.Instant { start + .seconds(seconds) }

    @Test func softThenHardThenAbandon() {
        var run = supervision()
        #expect(run.deadline == at(10))
        #expect(run.tick(at(4.99)) == nil)
        #expect(run.tick(at(5)) == .softTimeout)
        #expect(run.tick(at(5.1)) == nil)
        #expect(run.tick(at(9.99)) == nil)
        #expect(run.stopReason == nil)
        #expect(run.tick(at(10)) == .stop)
        #expect(run.stopReason == .timeout)
        #expect(run.tick(at(12.99)) == nil)
        #expect(run.tick(at(13)) == .abandon)
        #expect(run.tick(at(99)) == nil)
        #expect(run.stopReason == .timeout)
    }

    @Test func hardOutweighsSoftInOneTick() {
        var run = supervision()
        #expect(run.tick(at(11)) == .stop)
        #expect(run.tick(at(11.1)) == nil)
    }

    @Test func noSoftTimeout() {
        var run = supervision(soft: nil)
        #expect(run.tick(at(9.9)) == nil)
        #expect(run.tick(at(10)) == .stop)
    }

    @Test func cancelStopsAndGivesUpAfterTheGrace() {
        var run = supervision()
        #expect(run.stop(.cancelled(note: "a"), now: at(1)) == .stop)
        #expect(run.tick(at(3.99)) == nil)
        #expect(run.tick(at(4)) == .abandon)
    }

    @Test func stoppingIgnoresTimeouts() {
        var run = RunSupervision(
            now: start, timeout: .seconds(2), softTimeout: .seconds(1), grace: .seconds(9))
        #expect(run.stop(.released, now: at(0.5)) == .stop)
        #expect(run.tick(at(1)) == nil)
        #expect(run.tick(at(2)) == nil)
        #expect(run.stopReason == .released)
    }

    @Test func firstReasonCounts() {
        var run = supervision()
        _ = run.stop(.cancelled(note: "first"), now: at(1))
        #expect(run.stop(.cancelled(note: "second"), now: at(1)) == nil)
        #expect(run.stop(.released, now: at(2), grace: .zero) == nil)
        #expect(run.stopReason == .cancelled(note: "first"))
        // But the shorter grace does.
        #expect(run.tick(at(2)) == .abandon)
        #expect(run.end(.success(result)) == .cancelled(note: "first"))
    }

    @Test func laterReasonDoesNotLengthenTheGrace() {
        var run = supervision()
        _ = run.stop(.cancelled(note: ""), now: at(1))
        _ = run.stop(.released, now: at(3.5))
        #expect(run.tick(at(4)) == .abandon)
    }

    @Test func graceOfAStopIsNeverLongerThanTheRuns() {
        var run = supervision()
        _ = run.stop(.released, now: at(0), grace: .seconds(100))
        #expect(run.tick(at(3)) == .abandon)
    }

    @Test func lostLeaseOutweighsAll() {
        var run = supervision()
        _ = run.stop(.cancelled(note: ""), now: at(1))
        #expect(run.stop(.leaseLost, now: at(2), grace: .seconds(0.5)) == nil)
        #expect(run.stopReason == .leaseLost)
        #expect(run.tick(at(2.5)) == .abandon)
        #expect(run.end(.success(result)) == nil)
        #expect(run.end(.failure(failure)) == nil)
    }

    @Test func abandonedStaysAsItIs() {
        var run = supervision()
        _ = run.tick(at(10))
        _ = run.tick(at(13))
        #expect(run.stop(.cancelled(note: ""), now: at(14)) == nil)
        #expect(run.stopReason == .timeout)
        // But its end is not to be written any more.
        #expect(run.stop(.leaseLost, now: at(15)) == nil)
        #expect(run.stopReason == .leaseLost && run.tick(at(16)) == nil)
    }

    @Test func endOfARunThatWasLeftAlone() {
        let run = supervision()
        #expect(run.end(.success(result)) == .succeeded(result))
        #expect(
            run.end(.failure(failure))
                == .failed(failure.error, retryAfter: .seconds(1)))
    }

    @Test func endAfterEachReason() {
        let reasons: [(RunSupervision.StopReason, success: RunEnd?, failure: RunEnd?)] = [
            (.timeout, .timedOut, .timedOut),
            (.cancelled(note: "why"), .cancelled(note: "why"), .cancelled(note: "why")),
            // Finished in time: not given back.
            (.released, .succeeded(result), .released),
            (.leaseLost, nil, nil),
        ]
        for (reason, success, failed) in reasons {
            var run = supervision()
            _ = run.stop(reason, now: at(1))
            #expect(run.end(.success(result)) == success)
            #expect(run.end(.failure(failure)) == failed)
        }
    }
}
