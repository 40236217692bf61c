public import Foundation
import JobModel
package import JobEngine
public import Logging
public import SignalboxJobs
import Support

/// The facts of an attempt, with functions to report while it runs.
public struct JobContext: Sendable {
    let run: any Run
    private let serverLogger: Logger

    /// - Parameter logger: the server's logger, from which the attempt's own is made.
    package init(run: any Run, logger: Logger) {
        self.run = run
        serverLogger = logger
    }

    /// The job's id.
    public var jobID: UUID { run.jobID.uuid }
    /// The kind of the job.
    public var kind: String { run.kind }
    /// The user on whose behalf the job runs.
    public var userID: String { run.userID }
    /// The job's queue.
    public var queue: String { run.queue }
    /// The job's priority: among the waiting jobs of a user in a queue, a higher one runs first.
    public var priority: Int { run.priority }
    /// The job's labels. Keys that Swift takes for equal, such as two spellings of é, are one key here, with one
    /// of their values.
    public var labels: [String: String] {
        Dictionary(run.labels.map { ($0.key.text, $0.value.text) }, uniquingKeysWith: { first, _ in first })
    }
    /// The number of this attempt, from 1. Each start of the job has the next one, so that the job's id and this number
    /// name one run.
    public var attempt: Int { run.attempt }
    /// The attempts of the job's budget that are used up, this one included: those since the job was enqueued or last
    /// retried by a caller, without those that were released because their node shut down.
    public var attemptsUsed: Int { run.attemptsUsed }
    /// The job's budget of attempts, as its caller has set it.
    public var maxAttempts: Int { run.maxAttempts }
    /// Whether no attempt follows this one if it fails.
    public var isLastAttempt: Bool { attemptsUsed >= maxAttempts }
    /// The job's payload, which is also there if the handler has a typed input.
    public var payload: JobPayload { JobPayload(run.payload, contentType: run.contentType) }
    /// The time at which the hard timeout ends this attempt, by cancelling its task.
    public var deadline: ContinuousClock.Instant { run.deadline }

    /// Writes to the server's log, with the job's id, kind and user and the number of the attempt in every line.
    /// `log(_:level:)` writes to the job's own log, which its user reads.
    ///
    /// A new logger is made at each use, so a handler that logs much should keep it in a constant.
    public var logger: Logger {
        var logger = serverLogger
        logger[metadataKey: "job"] = "\(run.jobID)"
        logger[metadataKey: "kind"] = "\(run.kind)"
        logger[metadataKey: "user"] = "\(run.userID)"
        logger[metadataKey: "attempt"] = "\(run.attempt)"
        return logger
    }

    /// Reports how far the attempt is, without waiting. Watchers see it at once; only the latest report is kept.
    ///
    /// - Parameters:
    ///   - fraction: the fraction of the whole attempt that is done, 0 to 1. Watchers never see it fall: a smaller one than
    ///     before has no effect.
    ///   - message: for people, at most 1,024 bytes.
    ///   - stage: the current activity, at most 128 bytes.
    public func report(fraction: Double, message: String = "", stage: String = "") {
        run.report(stage: stage, fraction: fraction, message: message, done: 0, total: 0)
    }

    /// Reports how many steps, bytes or other units are done, from which the fraction is computed. Otherwise it is like
    /// `report(fraction:message:stage:)`.
    ///
    /// - Parameters:
    ///   - step: steps done, from 0.
    ///   - steps: steps in all, at least 1.
    ///   - message: for people, at most 1,024 bytes.
    ///   - stage: the current activity, at most 128 bytes.
    public func report(step: Int, of steps: Int, message: String = "", stage: String = "") {
        let fraction = Double(step) / Double(max(steps, 1))
        run.report(stage: stage, fraction: fraction, message: message, done: Int64(step), total: Int64(steps))
    }

    /// Writes a line of at most 4,096 bytes to the job's log, without waiting. The last 200 lines are kept.
    public func log(_ message: String, level: JobLogLevel = .info) {
        run.log(level.line, message)
    }

    /// The checkpoint that an earlier attempt saved; nil if there is none.
    ///
    /// Throws a `CheckpointError` if it cannot be decoded as `Value`, for example after a change of the type. A
    /// handler that can work without it catches the error and starts over.
    public func checkpoint<Value: Decodable>(as type: Value.Type = Value.self) throws -> Value? {
        guard let checkpoint = run.checkpoint else { return nil }
        do {
            return try JSONDecoder().decode(type, from: Data(checkpoint))
        } catch {
            throw CheckpointError(type: "\(type)", reason: "\(error)")
        }
    }

    /// Saves `value`, at most 256 KiB as JSON, for the next attempt. Returns once it is committed, however long
    /// the database is unavailable.
    ///
    /// Throws `CancellationError` when the run's lease is lost, because another attempt may then own the job,
    /// when the task is cancelled, or when the run is stopped while the database is unavailable. A write that is
    /// in flight then is waited for, but no longer than the grace time.
    public func saveCheckpoint(_ value: some Encodable) async throws {
        try await run.save(checkpoint: [UInt8](try JSONEncoder().encode(value)))
    }

    /// Returns when the soft timeout is reached. Throws `CancellationError` if the task is cancelled before.
    /// Without a soft timeout, it never returns otherwise.
    public func softTimeoutReached() async throws {
        try await run.softTimeout()
    }
}

/// A checkpoint that does not have the shape that its handler expects.
public struct CheckpointError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The type that was expected.
    public var type: String
    /// The reason why the checkpoint cannot be decoded. It may quote the checkpoint.
    public var reason: String

    /// A sentence with the type and the reason.
    public var description: String { "the checkpoint cannot be read as \(type): \(reason)" }
}
