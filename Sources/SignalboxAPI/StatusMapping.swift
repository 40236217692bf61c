import JobModel
import SignalboxProto
import JobStore
import NIOCore
package import GRPC
import Support

/// The one place where what went wrong becomes a gRPC status (`google.rpc.Code`), with the typed details
/// of `google.rpc` that say how to go on.
package enum StatusMapping {
    package static func status(for error: any Error) -> Status {
        switch error {
        case let status as Status: status
        case let error as StoreError: self.status(for: error)
        case let error as DecodingError: self.status(for: error)
        case is CancellationError: Status(.cancelled, "the call was cancelled")
        default: Status(.unknown, "unknown error")
        }
    }

    static func status(for error: StoreError) -> Status {
        switch error {
        case .unavailable:
            detailed(.unavailable, "the database cannot be reached", retryDelay: .seconds(1))
        case .overloaded:
            detailed(.unavailable, "too much waits to be written", retryDelay: .seconds(1))
        case .conflict(let id, _): conflict(id, "a job with this id or key has other content")
        case .tooManyQueues(let userID):
            exhausted(
                "the user would have had jobs in more than \(JobLimits.queuesPerUserMax) queues",
                subject: "user:\(userID)", retryDelay: nil)
        case .cancelled: Status(.cancelled, "the call was cancelled")
        case .notFound: Status(.notFound, "there is no such job")
        case .wrongState(let state):
            Status(.failedPrecondition, "the job is \(state.rawValue), not failed or cancelled")
        case .stale: Status(.failedPrecondition, "the run has lost its lease")
        // Their text goes to the log only.
        case .schema, .broken: Status(.internalError, "internal error")
        }
    }

    private static func status(for error: DecodingError) -> Status {
        switch error {
        case .malformed: Status(.invalidArgument, "the message is malformed")
        case .tooLarge: Status(.resourceExhausted, "decoded message exceeds the memory limit")
        case .invalid(let violation): invalid([violation])
        }
    }

    static func conflict(_ id: JobID, _ message: String) -> Status {
        detailed(.alreadyExists, message, job: id)
    }

    static func notFound(_ id: JobID) -> Status {
        detailed(.notFound, "there is no job \(id)", job: id)
    }

    /// What the store says of one job: it does not say which one it has not found.
    static func naming(_ id: JobID, in error: StoreError) -> any Error {
        if case .notFound = error { return notFound(id) }
        return error
    }

    /// INVALID_ARGUMENT with `google.rpc.BadRequest`.
    static func invalid(_ violations: [FieldViolation]) -> Status {
        let first = violations.first
        let more = violations.count > 1 ? " (and \(violations.count - 1) more)" : ""
        return detailed(
            .invalidArgument, "\(first?.field ?? "") \(first?.description ?? "")\(more)",
            badRequest: violations)
    }

    /// RESOURCE_EXHAUSTED for a quota: whose, and when to try again; nil: that would be in vain.
    static func exhausted(_ message: String, subject: String, retryDelay: Duration?) -> Status {
        detailed(
            .resourceExhausted, message, retryDelay: retryDelay,
            quota: .init(subject: subject, description: message))
    }

    private static func detailed(
        _ code: Status.Code, _ message: String, badRequest: [FieldViolation] = [],
        retryDelay: Duration? = nil, quota: StatusDetails.Quota? = nil, job: JobID? = nil
    ) -> Status {
        let details = StatusDetails(
            code: code.rawValue, message: message, badRequest: badRequest, retryDelay: retryDelay,
            quota: quota,
            resource: job.map { .init(type: "signalbox.v1.Job", name: "\($0)", description: message) })
        return Status(code, message, details: details.encode())
    }
}

extension RequestMessage {
    /// Reads a request whose fields need no more than to be well formed, or throws the status that says
    /// what is wrong.
    static func read(
        _ bytes: ByteBuffer, _ check: (Self, inout FieldCheck) -> Void = { _, _ in }
    ) throws -> Self {
        var violations: [FieldViolation] = []
        let request = try decode(bytes, into: &violations)
        var fields = FieldCheck(violations: violations)
        check(request, &fields)
        guard fields.violations.isEmpty else { throw StatusMapping.invalid(fields.violations) }
        return request
    }
}
