import Foundation
import JobEngine
import JobModel
public import Signalbox

/// An attempt that runs, and what a server can do to it meanwhile.
public final class TestAttempt: Sendable {
    /// Every report of progress, as it is made. Ends with the attempt. For one reader.
    public let reports: AsyncStream<Job.Progress>
    private let run: TestRun
    private let task: Task<TestOutcome, Never>

    init(_ runner: some JobRunner, _ run: TestRun) {
        self.run = run
        reports = run.reports
        task = Task {
            let result = await Self.result(of: runner, run)
            return run.outcome(result)
        }
    }

    private static func result(
        of runner: some JobRunner, _ run: TestRun
    ) async -> Result<JobPayload, any Error> {
        do {
            let result = try await runner.run(run)
            guard result.data.count <= JobLimits.resultBytesMax else {
                throw JobFailure.permanent(
                    "a result of \(result.data.count) bytes is over the limit of \(JobLimits.resultBytesMax)")
            }
            return .success(JobPayload(result))
        } catch let failure as RunFailure {
            return .failure(JobFailure(failure))
        } catch {
            return .failure(error)
        }
    }

    /// Reaches the soft timeout: `softTimeoutReached` returns.
    public func reachSoftTimeout() {
        run.reachSoftTimeout()
    }

    /// Cancels the handler's task, as a cancellation of the job, the hard timeout and a lost lease do.
    public func cancel() {
        task.cancel()
    }

    /// Waits for the attempt's end.
    public var outcome: TestOutcome {
        get async { await task.value }
    }
}

extension JobFailure {
    fileprivate init(_ failure: RunFailure) {
        let kept = JobError(
            reason: failure.reason, message: failure.message,
            cause: failure.isPermanent ? .handlerPermanent : .handler)
        self = .permanent(kept.message, reason: kept.reason, details: failure.details)
        isPermanent = failure.isPermanent
        retryAfter = failure.retryAfter
    }
}
