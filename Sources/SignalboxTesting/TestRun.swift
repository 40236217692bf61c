import Foundation
import JobEngine
import JobModel
import Signalbox
import Synchronization
import Support

/// A run that keeps what its handler says.
final class TestRun: Run {
    private struct State {
        var reports: [Job.Progress] = []
        var log: [Job.LogLine] = []
        var checkpoints: [Data] = []
    }

    let jobID: JobID
    let kind: String
    let userID: String
    let queue: String
    let priority: Int
    let labels: [ExactText: ExactText]
    let attempt: Int
    var attemptsUsed: Int { attempt }
    let maxAttempts: Int
    let payload: [UInt8]
    let contentType: String
    let checkpoint: [UInt8]?
    let deadline: ContinuousClock.Instant
    let grace: Duration = .seconds(10)
    let reports: AsyncStream<Job.Progress>
    private let report: AsyncStream<Job.Progress>.Continuation
    private let state = Mutex(State())
    private let softTimeoutEvent = OneShotEvent()

    init(
        jobID: JobID, kind: String, userID: String, queue: String, priority: Int,
        labels: [ExactText: ExactText], attempt: Int, maxAttempts: Int, payload: [UInt8], contentType: String,
        checkpoint: [UInt8]?, deadline: ContinuousClock.Instant
    ) {
        self.jobID = jobID
        self.kind = kind
        self.userID = userID
        self.queue = queue
        self.priority = priority
        self.labels = labels
        self.attempt = attempt
        self.maxAttempts = maxAttempts
        self.payload = payload
        self.contentType = contentType
        self.checkpoint = checkpoint
        self.deadline = deadline
        (reports, report) = AsyncStream.makeStream()
    }

    func report(stage: String, fraction: Double?, message: String, done: Int64, total: Int64) {
        let progress = Job.Progress(
            JobModel.Progress(
                stage: stage, fraction: fraction, message: message, done: done, total: total, updatedAt: .now)
        )
        state.withLock { $0.reports.append(progress) }
        report.yield(progress)
    }

    func log(_ level: JobModel.LogLine.Level, _ message: String) {
        state.withLock { state in
            let line = JobModel.LogLine(
                number: Int64(state.log.count + 1), at: .now, attempt: attempt, level: level, message: message
            )
            state.log.append(Job.LogLine(line))
        }
    }

    func save(checkpoint: [UInt8]) async throws {
        try Task.checkCancellation()
        guard checkpoint.count <= JobLimits.checkpointBytesMax else {
            throw RunFailure(
                message:
                    "a checkpoint of \(checkpoint.count) bytes is over the limit of \(JobLimits.checkpointBytesMax)",
                isPermanent: true)
        }
        state.withLock { $0.checkpoints.append(Data(checkpoint)) }
    }

    func softTimeout() async throws {
        try await softTimeoutEvent.wait()
    }

    func reachSoftTimeout() { softTimeoutEvent.fire() }

    /// A run of a test is never given up.
    func abandoned() async throws {
        let (never, continuation) = AsyncStream<Never>.makeStream()
        for await _ in never {}
        continuation.finish()
        throw CancellationError()
    }

    /// Ends the reports.
    func outcome(_ result: Result<JobPayload, any Error>) -> TestOutcome {
        report.finish()
        return state.withLock {
            TestOutcome(result: result, reports: $0.reports, log: $0.log, checkpoints: $0.checkpoints)
        }
    }
}
