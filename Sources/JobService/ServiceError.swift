package import JobModel
package import Support

/// Why an operation was refused or failed. It holds everything that an answer to the caller needs: `message`, the fields
/// that are wrong, the delay before a repetition. The text of `unavailable` and `broken` is for the log only.
package enum ServiceError: Error, Sendable, Equatable {
    /// Fields of the request are wrong. There is at least one violation.
    case invalid([FieldViolation])
    /// The page token was made for another list or another caller, or not by this service, or is too old.
    case pageTokenInvalid
    /// The field names a field that a call does not change. `allowed` is the one that it may name.
    case maskInvalid(field: String, allowed: String)
    /// The payload in this field has more than `JobLimits.payloadBytesMax` bytes.
    case payloadTooLarge(field: String, bytes: Int)
    /// The field names a user for whom the caller may not act. The error does not tell whether that user has any jobs.
    case userNotAllowed(field: String)
    /// No live node handles the kind that the field names.
    case unknownKind(String, field: String)
    /// The user's quota is used up. `retryAfter` is nil where the request is larger than the whole quota.
    case quotaExceeded(Quota, user: ExactText, retryAfter: Duration?)
    /// The user would have had jobs in more than `JobLimits.queuesPerUserMax` queues.
    case tooManyQueues(user: ExactText)
    /// There is no such job among those of the caller's users.
    case notFound(JobID)
    /// No job, setting or limit has named this queue yet.
    case queueNotFound(String)
    /// The id or the idempotency key belongs to the job `JobID`, which has other content. `index` is the position in a
    /// batch.
    case conflict(JobID, Taken, index: Int?)
    /// The job is in a state that does not allow the operation.
    case wrongState(JobID, JobState)
    /// The job does not have the sequence that the caller expects. Nothing was done.
    case sequenceMismatch(JobID, expected: Int64, actual: Int64)
    /// A watch was to continue after an event that the job has not reached: it is at `sequence`.
    case outOfRange(JobID, sequence: Int64, after: Int64)
    /// The reader of a watch is so slow that events were lost. It can start the watch again.
    case readerTooSlow
    /// This node is shutting down. The caller can connect to another one.
    case shuttingDown
    /// Too much is waiting to be written. Nothing was started.
    case overloaded
    /// The database cannot be reached or did not answer in time. Nothing was written.
    case unavailable(String)
    /// The database did not answer a write in time, or cannot be reached. It is not known whether the write took place.
    case outcomeUnknown(String)
    /// The caller's task was cancelled.
    case cancelled
    /// A bug of the service or the database, or a value that a newer version has written.
    case broken(String)

    /// The value that another job has already.
    package enum Taken: Sendable, Equatable {
        case jobID
        case idempotencyKey
    }

    /// An error of the store, in an operation on the job `id` if it is about one.
    init(_ error: StoreError, job id: JobID? = nil, isWrite: Bool = false) {
        self =
            switch error {
            case .unavailable(let text): isWrite ? .outcomeUnknown(text) : .unavailable(text)
            case .overloaded: .overloaded
            case .cancelled: .cancelled
            case .conflict(let other, _): .conflict(other, other == id ? .jobID : .idempotencyKey, index: nil)
            case .tooManyQueues(let user): .tooManyQueues(user: user)
            case .notFound: id.map { .notFound($0) } ?? .broken("a job was not found in an operation on none")
            case .wrongState(let state):
                id.map { .wrongState($0, state) }
                    ?? .broken("a job has the wrong state in an operation on none")
            case .sequenceMismatch(let expected, let actual):
                id.map { .sequenceMismatch($0, expected: expected, actual: actual) }
                    ?? .broken("a job has another sequence in an operation on none")
            case .stale: .broken("an operation of a caller has lost a lease, which callers do not have")
            case .schema(let text), .broken(let text): .broken(text)
            }
    }
}

/// A quota of a user. The raw value is the name of the setting.
package enum Quota: String, Sendable {
    case pendingJobs = "max-pending-per-user"
    case pendingBytes = "max-pending-payload-per-user"
    case rate = "enqueue-rate-per-user"
    case watches = "max-watches-per-user"

    fileprivate var isExceeded: String {
        switch self {
        case .pendingJobs: "the user's pending job quota is exceeded"
        case .pendingBytes: "the user's pending payload quota is exceeded"
        case .rate: "the user's enqueue rate limit is exceeded"
        case .watches: "the user's watch quota is exceeded"
        }
    }
}

extension ServiceError {
    /// The message for the caller. It has no text of the database or of a library.
    package var message: String {
        switch self {
        case .invalid, .pageTokenInvalid, .maskInvalid: Self.text(of: fieldViolations)
        case .unknownKind(let kind, let field): "\(field): no live node handles the kind \(kind)"
        case .payloadTooLarge(let field, let bytes):
            "\(field) has \(bytes) bytes, at most \(JobLimits.payloadBytesMax)"
        case .userNotAllowed(let field): "\(field) is not a user for whom this caller may act"
        case .quotaExceeded(let quota, _, let delay):
            "\(delay == nil ? "the request alone exceeds the user's quota" : quota.isExceeded)"
                + " (\(quota.rawValue))"
        case .tooManyQueues:
            "the user would have jobs in more than \(JobLimits.queuesPerUserMax) queues"
        case .notFound(let id): "there is no job \(id)"
        case .queueNotFound(let queue): "there is no queue \(queue)"
        case .conflict(_, let taken, let index):
            "\(index.map { "jobs[\($0)]: " } ?? "")a job with this \(taken == .jobID ? "id" : "idempotency key") has other content"
        case .wrongState(_, let state): "the job is \(state.rawValue), not failed or cancelled"
        case .sequenceMismatch(let id, let expected, let actual):
            "job \(id) is at sequence \(actual), not \(expected): nothing was done"
        case .outOfRange(let id, let sequence, let after):
            "job \(id) is at sequence \(sequence), before \(after)"
        case .readerTooSlow: "the reader is too slow for this watch: start it again"
        case .shuttingDown: "this server is shutting down: connect again"
        case .overloaded: "too many writes are waiting: try again"
        case .unavailable: "the database cannot be reached, or did not complete the operation in time"
        case .outcomeUnknown:
            "the database did not answer: it is not known whether the change was made"
        case .cancelled: "the call was cancelled"
        case .broken: "internal error"
        }
    }

    /// The fields that are wrong; empty where the error is not about fields.
    package var fieldViolations: [FieldViolation] {
        switch self {
        case .invalid(let violations): violations
        case .pageTokenInvalid:
            [
                FieldViolation(
                    field: "page_token", reason: .malformed,
                    description:
                        "was not made by this service for this list and caller, or is over 3 days old")
            ]
        case .maskInvalid(let field, let allowed):
            [
                FieldViolation(
                    field: field, reason: .notAllowedHere,
                    description: "is not \(allowed), which alone can be changed")
            ]
        default: []
        }
    }

    private static func text(of violations: [FieldViolation]) -> String {
        let more = violations.count > 1 ? " (and \(violations.count - 1) more)" : ""
        return "\(violations.first?.field ?? "") \(violations.first?.description ?? "")\(more)"
    }

    /// Passes on what `body` returns, and an error of the store as an error of the service.
    static func mapping<R>(
        job id: JobID? = nil, isWrite: Bool = false, _ body: () async throws(StoreError) -> R
    ) async throws(ServiceError) -> R {
        do {
            return try await body()
        } catch {
            throw ServiceError(error, job: id, isWrite: isWrite)
        }
    }

    static func check(_ violations: [FieldViolation]) throws(ServiceError) {
        guard violations.isEmpty else { throw .invalid(violations) }
    }
}

extension JobID {
    /// The id that a caller has written into a field.
    ///
    /// - Parameter violations: fields that were found wrong before. They are reported together with this one.
    package init(
        _ text: ExactText, field: String, found violations: [FieldViolation] = []
    ) throws(ServiceError) {
        guard let id = JobID(text.text) else {
            let description = text.isEmpty ? "is required" : "is not a UUID of 36 characters"
            throw .invalid(
                violations + [
                    FieldViolation(
                        field: field, reason: text.isEmpty ? .required : .malformed, description: description)
                ])
        }
        self = id
    }
}
