import JobModel
package import JobService
import SignalboxProto
import NIOCore
package import GRPC
import Support

/// The one place where an error becomes a gRPC status (`google.rpc.Code`), with the typed details of `google.rpc` that say
/// what the caller can do about it.
package enum StatusMapping {
    package static func status(for error: any Error) -> Status {
        switch error {
        case let status as Status: status
        case let error as ServiceError: self.status(for: error)
        case let error as DecodingError: self.status(for: error)
        case is CancellationError: Status(.cancelled, "the call was cancelled")
        default: Status(.unknown, "unknown error")
        }
    }

    package static func status(for error: ServiceError) -> Status {
        switch error {
        case .invalid, .unknownKind:
            detailed(.invalidArgument, error, badRequest: error.fieldViolations)
        case .payloadTooLarge: Status(.resourceExhausted, error.message)
        case .userNotAllowed: Status(.permissionDenied, error.message)
        case .quotaExceeded(_, let user, let retryDelay):
            exhausted(error, user: user.text, retryDelay: retryDelay)
        case .tooManyQueues(let user): exhausted(error, user: user.text, retryDelay: nil)
        case .notFound(let id): detailed(.notFound, error, job: id)
        case .conflict(let id, _): detailed(.alreadyExists, error, job: id)
        case .wrongState: Status(.failedPrecondition, error.message)
        case .outOfRange: Status(.outOfRange, error.message)
        case .readerTooSlow: Status(.aborted, error.message)
        case .shuttingDown: Status(.unavailable, error.message)
        case .overloaded, .unavailable: detailed(.unavailable, error, retryDelay: .seconds(1))
        case .cancelled: Status(.cancelled, error.message)
        case .broken: Status(.internalError, error.message)
        }
    }

    private static func status(for error: DecodingError) -> Status {
        switch error {
        case .malformed: Status(.invalidArgument, "the message is malformed")
        case .tooLarge: Status(.resourceExhausted, "decoded message exceeds the memory limit")
        case .unknownFields(let violations): status(for: ServiceError.invalid(violations))
        case .invalid(let violation): status(for: ServiceError.invalid([violation]))
        }
    }

    /// RESOURCE_EXHAUSTED for a quota of a user. The delay is nil where repeating the call would not help.
    private static func exhausted(_ error: ServiceError, user: String, retryDelay: Duration?) -> Status {
        detailed(
            .resourceExhausted, error, retryDelay: retryDelay,
            quota: .init(subject: "user:\(user)", description: error.message))
    }

    private static func detailed(
        _ code: Status.Code, _ error: ServiceError, badRequest: [FieldViolation] = [],
        retryDelay: Duration? = nil, quota: StatusDetails.Quota? = nil, job: JobID? = nil
    ) -> Status {
        let message = error.message
        let details = StatusDetails(
            code: code.rawValue, message: message, badRequest: badRequest, retryDelay: retryDelay,
            quota: quota,
            resource: job.map { .init(type: "signalbox.v1.Job", name: "\($0)", description: message) })
        return Status(code, message, details: details.encode())
    }
}

extension RequestMessage {
    /// Reads a request whose fields only have to be well formed. Throws `ServiceError.invalid` if one is not.
    static func read(_ bytes: ByteBuffer) throws -> Self {
        var violations: [FieldViolation] = []
        let request = try decode(bytes, into: &violations)
        guard violations.isEmpty else { throw ServiceError.invalid(violations) }
        return request
    }
}
