import JobModel
import Support

// exact in this file: the keys of the metadata are our own words.

/// Why a call was refused or has failed, in the words that the API promises (google.rpc.ErrorInfo). docs/errors.md
/// lists them.
package enum ErrorReason: String, Sendable, CaseIterable {
    case fieldsInvalid = "FIELDS_INVALID"
    case unknownField = "UNKNOWN_FIELD"
    case pageTokenInvalid = "PAGE_TOKEN_INVALID"
    case maskInvalid = "MASK_INVALID"
    case messageMalformed = "MESSAGE_MALFORMED"
    case credentialsMissing = "CREDENTIALS_MISSING"
    case credentialsInvalid = "CREDENTIALS_INVALID"
    case credentialsExpired = "CREDENTIALS_EXPIRED"
    case scopeMissing = "SCOPE_MISSING"
    case methodNotAllowed = "METHOD_NOT_ALLOWED"
    case userNotAllowed = "USER_NOT_ALLOWED"
    case jobNotFound = "JOB_NOT_FOUND"
    case queueNotFound = "QUEUE_NOT_FOUND"
    case serviceNotFound = "SERVICE_NOT_FOUND"
    case jobIDTaken = "JOB_ID_TAKEN"
    case idempotencyKeyTaken = "IDEMPOTENCY_KEY_TAKEN"
    case jobState = "JOB_STATE"
    case kindUnknown = "KIND_UNKNOWN"
    case watchTooSlow = "WATCH_TOO_SLOW"
    case sequenceMismatch = "SEQUENCE_MISMATCH"
    case sequenceBeyondEnd = "SEQUENCE_BEYOND_END"
    case quotaExceeded = "QUOTA_EXCEEDED"
    case payloadTooLarge = "PAYLOAD_TOO_LARGE"
    case messageTooLarge = "MESSAGE_TOO_LARGE"
    case tooManyQueues = "TOO_MANY_QUEUES"
    case databaseUnavailable = "DATABASE_UNAVAILABLE"
    case keysUnavailable = "KEYS_UNAVAILABLE"
    case serverBusy = "SERVER_BUSY"
    case shuttingDown = "SHUTTING_DOWN"
    case outcomeUnknown = "OUTCOME_UNKNOWN"
    case cancelled = "CANCELLED"
    case internalError = "INTERNAL"
}

extension ServiceError {
    package var reason: ErrorReason {
        switch self {
        case .invalid(let violations):
            violations.contains { $0.reason == .unknownField } ? .unknownField : .fieldsInvalid
        case .pageTokenInvalid: .pageTokenInvalid
        case .maskInvalid: .maskInvalid
        case .payloadTooLarge: .payloadTooLarge
        case .userNotAllowed: .userNotAllowed
        case .unknownKind: .kindUnknown
        case .quotaExceeded: .quotaExceeded
        case .tooManyQueues: .tooManyQueues
        case .notFound: .jobNotFound
        case .queueNotFound: .queueNotFound
        case .conflict(_, .jobID, index: _): .jobIDTaken
        case .conflict(_, .idempotencyKey, index: _): .idempotencyKeyTaken
        case .wrongState: .jobState
        case .sequenceMismatch: .sequenceMismatch
        case .outOfRange: .sequenceBeyondEnd
        case .readerTooSlow: .watchTooSlow
        case .shuttingDown: .shuttingDown
        case .overloaded: .serverBusy
        case .unavailable: .databaseUnavailable
        case .outcomeUnknown: .outcomeUnknown
        case .cancelled: .cancelled
        case .broken: .internalError
        }
    }

    /// The variable parts of the message.
    package var metadata: [String: String] {
        switch self {
        case .payloadTooLarge(let field, let bytes):
            ["field": field, "sizeBytes": "\(bytes)", "limitBytes": "\(JobLimits.payloadBytesMax)"]
        case .userNotAllowed(let field): ["field": field]
        case .unknownKind(let kind, let field): ["kind": kind, "field": field]
        case .quotaExceeded(let quota, let user, _): ["quota": quota.rawValue, "userId": user.text]
        case .tooManyQueues(let user): ["userId": user.text, "limit": "\(JobLimits.queuesPerUserMax)"]
        case .notFound(let id): ["jobId": "\(id)"]
        case .queueNotFound(let queue): ["queue": queue]
        case .maskInvalid(let field, _): ["field": field]
        case .conflict(let id, _, let index):
            ["jobId": "\(id)"].merging(index.map { ["index": "\($0)"] } ?? [:]) { first, _ in first }
        case .wrongState(let id, let state): ["jobId": "\(id)", "state": state.rawValue]
        case .sequenceMismatch(let id, let expected, let actual):
            ["jobId": "\(id)", "expected": "\(expected)", "actual": "\(actual)"]
        case .outOfRange(let id, let sequence, let after):
            ["jobId": "\(id)", "sequence": "\(sequence)", "afterSequence": "\(after)"]
        // An error names no more than the first of the fields (`StatusDetails.violationsMax`).
        case .invalid(let violations): ["violations": "\(violations.count)"]
        case .pageTokenInvalid, .readerTooSlow, .shuttingDown, .overloaded, .unavailable,
            .outcomeUnknown, .cancelled, .broken:
            [:]
        }
    }

    /// The delay after which the call may be repeated; nil: to wait does not help.
    package var retryDelay: Duration? {
        switch self {
        case .quotaExceeded(_, _, let delay): delay
        case .shuttingDown, .overloaded, .unavailable, .outcomeUnknown: .seconds(1)
        default: nil
        }
    }
}
