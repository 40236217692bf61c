import Authentication
import JobModel
package import JobService
import SignalboxProto
import NIOCore
package import GRPC
import Support

/// The one place where an error becomes a gRPC status (`google.rpc.Code`), with the typed details of `google.rpc` that say
/// what the caller can do about it. docs/errors.md lists them all.
package enum StatusMapping {
    package static func status(for error: any Error) -> Status {
        switch error {
        case let status as Status: status
        case let error as ServiceError: self.status(for: error)
        case let error as DecodingError: self.status(for: error)
        case is CancellationError: self.status(for: ServiceError.cancelled)
        default: self.status(for: ServiceError.broken("\(error)"))
        }
    }

    package static func status(for error: ServiceError) -> Status {
        var details = StatusDetails(
            code: error.code.rawValue, message: error.message,
            errorInfo: .init(reason: error.reason.rawValue, metadata: error.metadata),
            badRequest: error.fieldViolations.map {
                .init(field: $0.field, reason: $0.reason.rawValue, description: $0.description)
            },
            retryDelay: error.retryDelay)
        switch error {
        case .quotaExceeded(_, let user, _), .tooManyQueues(let user):
            details.quota = .init(subject: "user:\(user.text)", description: error.message)
        case .notFound(let id), .conflict(let id, _, index: _):
            details.resource = .init(
                type: "signalbox.v1.Job", name: "\(id)", description: error.message)
        case .queueNotFound(let queue):
            details.resource = .init(
                type: "signalbox.v1.Queue", name: queue, description: error.message)
        case .wrongState(let id, _):
            details.precondition = .init(
                type: error.reason.rawValue, subject: "\(id)", description: error.message)
        case .unknownKind(let kind, _):
            details.precondition = .init(
                type: error.reason.rawValue, subject: kind, description: error.message)
        default: break
        }
        return Status(error.code, error.message, details: details.encode())
    }

    private static func status(for error: DecodingError) -> Status {
        switch error {
        case .malformed: status(.invalidArgument, .messageMalformed, "the message is malformed")
        case .tooLarge:
            status(.resourceExhausted, .messageTooLarge, "decoded message exceeds the memory limit")
        case .unknownFields(let violations): status(for: ServiceError.invalid(violations))
        case .invalid(let violation): status(for: ServiceError.invalid([violation]))
        }
    }

    static func status(for error: AuthenticationError) -> Status {
        let reason: ErrorReason =
            switch error.code {
            case .missingCredentials: .credentialsMissing
            case .expired, .revoked: .credentialsExpired
            case .keySourceUnavailable: .keysUnavailable
            case .tooManyChecks: .serverBusy
            case .malformedHeader, .malformedToken, .unknownToken, .unsupportedType, .unsupportedAlgorithm,
                .unknownKey, .badSignature, .wrongIssuer, .wrongAudience, .notYetValid,
                .malformedCertificate, .unknownCertificate:
                .credentialsInvalid
            }
        return status(
            error.isTemporary ? .unavailable : .unauthenticated, reason, error.message,
            retryDelay: error.isTemporary ? .seconds(1) : nil)
    }

    static func status(for denial: AccessDenial) -> Status {
        switch denial {
        case .methodNotAllowed:
            status(.permissionDenied, .methodNotAllowed, "no caller may call this method")
        case .scopeMissing(let scope):
            status(
                .permissionDenied, .scopeMissing, "the call needs the scope \(scope.rawValue)",
                ["scope": scope.rawValue])
        }
    }

    static func serviceNotFound(_ service: String) -> Status {
        let message = "there is no service \(service)"
        return status(
            .notFound, .serviceNotFound, message, ["service": service],
            resource: .init(type: "service", name: service, description: message))
    }

    /// A status that is not about a job.
    private static func status(
        // exact: the keys are our own words.
        _ code: Status.Code, _ reason: ErrorReason, _ message: String, _ metadata: [String: String] = [:],
        retryDelay: Duration? = nil, resource: StatusDetails.Resource? = nil
    ) -> Status {
        let details = StatusDetails(
            code: code.rawValue, message: message,
            errorInfo: .init(reason: reason.rawValue, metadata: metadata), retryDelay: retryDelay,
            resource: resource)
        return Status(code, message, details: details.encode())
    }

    /// The details of a status of the transport (`ServerConfiguration.detailsEncoder`).
    package static func details(of status: Status) -> [UInt8] {
        guard let reason = status.reason else { return [] }
        return StatusDetails(
            code: status.code.rawValue, message: status.message,
            errorInfo: .init(reason: reason.word.rawValue, metadata: reason.metadata),
            retryDelay: reason.retryDelay
        ).encode()
    }
}

extension ServiceError {
    fileprivate var code: Status.Code {
        switch self {
        case .invalid, .pageTokenInvalid, .maskInvalid: .invalidArgument
        case .payloadTooLarge, .quotaExceeded, .tooManyQueues: .resourceExhausted
        case .userNotAllowed: .permissionDenied
        case .notFound, .queueNotFound: .notFound
        case .conflict: .alreadyExists
        case .wrongState, .unknownKind: .failedPrecondition
        case .outOfRange: .outOfRange
        case .readerTooSlow, .sequenceMismatch: .aborted
        case .shuttingDown, .overloaded, .unavailable, .outcomeUnknown: .unavailable
        case .cancelled: .cancelled
        case .broken: .internalError
        }
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
