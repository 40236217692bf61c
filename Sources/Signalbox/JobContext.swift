public import Foundation
import JobModel
import JobEngine

/// What a handler knows about its attempt, and what it may say while it runs.
public struct JobContext: Sendable {
    let run: any Run

    /// The job's id.
    public var jobID: UUID { run.jobID.uuid }
    /// On whose behalf.
    public var userID: String { run.userID }
    /// The job's queue.
    public var queue: String { run.queue }
    /// From 1.
    public var attempt: Int { run.attempt }
    /// After this one there is no other.
    public var isLastAttempt: Bool { run.attempt >= run.maxAttempts }

    /// Says how far the attempt is. Watchers see it at once; only the latest is kept. Never waits.
    ///
    /// - Parameters:
    ///   - fraction: 0 to 1.
    ///   - stage: what it is doing, at most 128 bytes.
    ///   - message: for people, at most 1,024 bytes.
    ///   - step: steps done, of `steps`; 0: not counted.
    public func report(
        fraction: Double, message: String = "", stage: String = "", step: Int = 0, steps: Int = 0
    ) {
        run.report(stage: stage, fraction: fraction, message: message, step: step, steps: steps)
    }

    /// Writes a line to the job's log, at most 4,096 bytes; the last 200 lines are kept. Never waits.
    public func log(_ message: String, level: LogLevel = .info) {
        let level: LogLine.Level =
            switch level {
            case .debug: .debug
            case .info: .info
            case .warning: .warning
            case .error: .error
            }
        run.log(level, message)
    }

    /// The weight of a line.
    public enum LogLevel: Sendable {
        /// For developers.
        case debug
        /// As it should be.
        case info
        /// Somebody may want to look.
        case warning
        /// Something went wrong.
        case error
    }

    /// What the last attempt saved; nil: nothing, or something of another shape.
    public func checkpoint<Value: Decodable>(as type: Value.Type = Value.self) -> Value? {
        run.checkpoint.flatMap { try? JSONDecoder().decode(type, from: Data($0)) }
    }

    /// Keeps `value`, at most 256 KiB as JSON, for the next attempt. Returns once it is committed, however long
    /// the database is away.
    ///
    /// Throws `CancellationError` when the run's lease is lost, for it is somebody else's then, when the task is
    /// cancelled, or when the run is stopped while the database is away.
    public func saveCheckpoint(_ value: some Encodable) async throws {
        try await run.save(checkpoint: [UInt8](try JSONEncoder().encode(value)))
    }

    /// Returns when the soft timeout is reached. Throws `CancellationError` when the task is cancelled
    /// before; never returns when there is no soft timeout.
    public func softTimeoutReached() async throws {
        try await run.softTimeout()
    }
}
