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
        (.wrongState(.running), .failedPrecondition, "the job is running, not failed or cancelled"),
        (.outOfRange(id, sequence: 3, after: 4), .outOfRange, "job \(id) is at sequence 3, before 4"),
        (.readerTooSlow, .aborted, "the reader is too slow for this watch: start it again"),
        (.shuttingDown, .unavailable, "this server is shutting down: connect again"),
        (.cancelled, .cancelled, "the call was cancelled"),
        (.broken("secret"), .internalError, "internal error"),
    ])
    func errorsWithoutDetails(_ error: ServiceError, _ code: Status.Code, _ message: String) {
        #expect(StatusMapping.status(for: error) == Status(code, message))
    }

    @Test(arguments: [
        (ServiceError.notFound(id), Status.Code.notFound, "there is no job \(id)"),
        (.conflict(id, index: nil), .alreadyExists, "a job with this id or key has other content"),
        (.conflict(id, index: 7), .alreadyExists, "jobs[7]: a job with this id or key has other content"),
    ])
    func errorsAboutAJob(_ error: ServiceError, _ code: Status.Code, _ message: String) throws {
        let status = StatusMapping.status(for: error)
        #expect(status.code == code && status.message == message)
        let resource = try status.decodedDetails.resource
        #expect(resource?.name == "\(Self.id)" && resource?.type == "signalbox.v1.Job")
    }

    @Test func errorsAboutFields() throws {
        let violations = [
            FieldViolation(field: "kind", description: "is required"),
            FieldViolation(field: "queue", description: "is longer than 128 bytes"),
        ]
        let invalid = StatusMapping.status(for: ServiceError.invalid(violations))
        #expect(invalid.code == .invalidArgument && invalid.message == "kind is required (and 1 more)")
        #expect(try invalid.decodedDetails.badRequest == violations)
        let newer = StatusMapping.status(for: DecodingError.unknownFields(violations))
        #expect(newer == invalid)
        let unknown = StatusMapping.status(for: ServiceError.unknownKind("x", field: "job.kind"))
        #expect(unknown.code == .invalidArgument && unknown.message == "job.kind no live node handles x")
        #expect(try unknown.decodedDetails.badRequest.map(\.field) == ["job.kind"])
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
                #expect(status.message.hasPrefix("that is more than the user may ever have at once ("))
            }
        }
    }

    @Test func errorsThatPass() throws {
        for (error, message) in [
            (ServiceError.unavailable("secret"), "the database cannot be reached"),
            (.overloaded, "too many writes are waiting: try again"),
        ] {
            let status = StatusMapping.status(for: error)
            #expect(status.code == .unavailable && status.message == message)
            #expect(try status.decodedDetails.retryDelay == .seconds(1))
        }
    }
}
