import JobModel
import JobService
import SignalboxProto
import GRPC
import Support
import Testing

@testable import SignalboxAPI

/// Each error of the service as the status that a client gets.
@Suite struct StatusMappingTests {
    private static let id = JobID("0197a0de-0000-4000-8000-00000000abcd") ?? .version7(at: .now)

    private static func status(_ error: ServiceError) -> Status { StatusMapping.status(for: error) }

    @Test(arguments: [
        (
            ServiceError.payloadTooLarge(field: "job.payload", bytes: 2_000_000),
            Status.Code.resourceExhausted,
            "job.payload has 2000000 bytes, at most 1048576"
        ),
        (
            .userNotAllowed(field: "user_id"), .permissionDenied,
            "user_id is not a user for whom this caller may act"
        ),
        (.outOfRange(id, sequence: 3, after: 4), .outOfRange, "job \(id) is at sequence 3, before 4"),
        (.readerTooSlow, .aborted, "the reader is too slow for this watch: start it again"),
        (.cancelled, .cancelled, "the call was cancelled"),
        (.broken("secret"), .internalError, "internal error"),
    ])
    func errorsWithErrorInfoAlone(_ error: ServiceError, _ code: Status.Code, _ message: String) throws {
        let status = Self.status(error)
        #expect(status.code == code && status.message == message)
        let info = StatusDetails.ErrorInfo(reason: error.reason.rawValue, metadata: error.metadata)
        #expect(
            try status.decodedDetails
                == StatusDetails(code: code.rawValue, message: message, errorInfo: info))
    }

    @Test(arguments: [
        (ServiceError.notFound(id), Status.Code.notFound, "there is no job \(id)"),
        (.conflict(id, .jobID, index: nil), .alreadyExists, "a job with this id has other content"),
        (
            .conflict(id, .idempotencyKey, index: 7), .alreadyExists,
            "jobs[7]: a job with this idempotency key has other content"
        ),
    ])
    func errorsAboutAJob(_ error: ServiceError, _ code: Status.Code, _ message: String) throws {
        let status = Self.status(error)
        #expect(status.code == code && status.message == message)
        let details = try status.decodedDetails
        #expect(details.resource?.name == "\(Self.id)" && details.resource?.type == "signalbox.v1.Job")
        #expect(details.errorInfo?.metadata["jobId"] == "\(Self.id)")
    }

    @Test func errorAboutASequence() throws {
        let status = Self.status(.sequenceMismatch(Self.id, expected: 3, actual: 4))
        #expect(status.code == .aborted)
        let details = try status.decodedDetails
        #expect(details.errorInfo?.reason == "SEQUENCE_MISMATCH" && details.retryDelay == nil)
        #expect(details.errorInfo?.metadata == ["jobId": "\(Self.id)", "expected": "3", "actual": "4"])
    }

    @Test func errorsAboutAState() throws {
        let state = Self.status(.wrongState(Self.id, .running))
        #expect(state.code == .failedPrecondition)
        #expect(state.message == "the job is running, not failed or cancelled")
        let violation = try #require(try state.decodedDetails.precondition)
        #expect(violation.type == "JOB_STATE" && violation.subject == "\(Self.id)")
        let unknown = Self.status(.unknownKind("x", field: "job.kind"))
        #expect(
            unknown.code == .failedPrecondition
                && unknown.message == "job.kind: no live node handles the kind x")
        let details = try unknown.decodedDetails
        #expect(details.precondition?.type == "KIND_UNKNOWN" && details.precondition?.subject == "x")
        #expect(details.errorInfo?.metadata == ["kind": "x", "field": "job.kind"])
    }

    @Test func errorsAboutFields() throws {
        let violations = [
            FieldViolation(field: "kind", reason: .required, description: "is required"),
            FieldViolation(field: "queue", reason: .tooLong, description: "is longer than 128 bytes"),
        ]
        let invalid = Self.status(.invalid(violations))
        #expect(invalid.code == .invalidArgument && invalid.message == "kind is required (and 1 more)")
        let details = try invalid.decodedDetails
        #expect(
            details.badRequest == [
                .init(field: "kind", reason: "REQUIRED", description: "is required"),
                .init(field: "queue", reason: "TOO_LONG", description: "is longer than 128 bytes"),
            ])
        #expect(details.errorInfo == .init(reason: "FIELDS_INVALID", metadata: ["violations": "2"]))
        let token = try Self.status(.pageTokenInvalid).decodedDetails
        #expect(token.badRequest.map(\.field) == ["page_token"])
        let newer = [
            FieldViolation(field: "job.<field 30>", reason: .unknownField, description: "is not known")
        ]
        let refused = try StatusMapping.status(for: DecodingError.unknownFields(newer)).decodedDetails
        #expect(refused.errorInfo?.reason == "UNKNOWN_FIELD")
        #expect(refused.badRequest.map(\.reason) == ["UNKNOWN_FIELD"])
    }

    @Test(arguments: [
        (Quota.pendingJobs, "the user's pending job quota is exceeded (max-pending-per-user)"),
        (.pendingBytes, "the user's pending payload quota is exceeded (max-pending-payload-per-user)"),
        (.rate, "the user's enqueue rate limit is exceeded (enqueue-rate-per-user)"),
        (.watches, "the user's watch quota is exceeded (max-watches-per-user)"),
    ])
    func quotas(_ quota: Quota, _ message: String) throws {
        for delay in [nil, Duration.milliseconds(250)] {
            let status = StatusMapping.status(
                for: ServiceError.quotaExceeded(quota, user: "a", retryAfter: delay))
            let details = try status.decodedDetails
            #expect(status.code == .resourceExhausted && details.retryDelay == delay)
            #expect(details.quota?.subject == "user:a")
            if delay != nil {
                #expect(status.message == message)
            } else {
                #expect(status.message.hasPrefix("the request alone exceeds the user's quota ("))
            }
        }
    }

    @Test func errorsThatPass() throws {
        for (error, message) in [
            (
                ServiceError.unavailable("secret"),
                "the database cannot be reached, or did not complete the operation in time"
            ),
            (
                .outcomeUnknown("secret"),
                "the database did not answer: it is not known whether the change was made"
            ),
            (.overloaded, "too many writes are waiting: try again"),
            (.shuttingDown, "this server is shutting down: connect again"),
        ] {
            let status = StatusMapping.status(for: error)
            #expect(status.code == .unavailable && status.message == message)
            #expect(try status.decodedDetails.retryDelay == .seconds(1))
        }
    }
}
