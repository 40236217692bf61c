public import Foundation
public import Signalbox

/// The outcome of an attempt, and everything that it reported.
public struct TestOutcome: Sendable {
    /// The result, or the error that ended the attempt. A `JobFailure` is what the job's user would read; a payload that
    /// cannot be read is one with the reason `bad_input`. Any other error is what the handler has thrown.
    public var result: Result<JobPayload, any Error>
    /// Every report of progress. A server keeps the latest.
    public var reports: [Job.Progress]
    /// The job's log. A server keeps the last 200 lines.
    public var log: [Job.LogLine]
    /// Every checkpoint that was saved, as JSON. The next attempt receives the last one.
    public var checkpoints: [Data]

    /// The result as JSON. Throws the error that ended the attempt, or a `DecodingError`.
    public func result<Value: Decodable>(as type: Value.Type) throws -> Value {
        try result.get().decoded()
    }

    /// The failure that the handler has reported. Nil: it has succeeded, or has thrown another error.
    public var failure: JobFailure? {
        guard case .failure(let error) = result else { return nil }
        return error as? JobFailure
    }

    /// The last checkpoint. Nil: none was saved. Throws a `DecodingError`.
    public func checkpoint<Value: Decodable>(as type: Value.Type) throws -> Value? {
        try checkpoints.last.map { try JSONDecoder().decode(type, from: $0) }
    }
}
