import JobModel
import SignalboxProto
import NIOCore

/// Any bytes as each message that the service reads, and as those that its client reads.
func fuzzMessages(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard let choice = bytes.first else { return }
    let bytes = ByteBuffer(bytes: bytes.dropFirst())
    switch Int(choice) % (requests.count + answers.count + 1) {
    case let number where number < requests.count:
        requests[number].fuzz(bytes)
    case let number where number < requests.count + answers.count:
        answers[number - requests.count].fuzz(bytes)
    default:
        _ = try? StatusDetails.decode(Array(bytes.readableBytesView))
    }
}

private let requests: [any RequestMessage.Type] = [
    EnqueueRequest.self, EnqueueBatchRequest.self, GetJobRequest.self, ListJobsRequest.self,
    WatchRequest.self,
    CancelRequest.self, RetryRequest.self, GetQueueRequest.self, ListQueuesRequest.self,
    PauseQueueRequest.self,
    ResumeQueueRequest.self, ListNodesRequest.self, UpdateUserLimitRequest.self, ListUserLimitsRequest.self,
    ListAttemptsRequest.self,
    ListLogLinesRequest.self, GetUserLimitRequest.self,
    GetServerInfoRequest.self,
    HealthCheckRequest.self, ServerReflectionRequest.self,
]

private let answers: [any ResponseMessage.Type] = [
    EnqueueResponse.self, EnqueueBatchResponse.self, GetJobResponse.self, ListJobsResponse.self,
    JobResponse.self,
    WatchResponse.self, QueueResponse.self, ListQueuesResponse.self, ListUserLimitsResponse.self,
    ListAttemptsResponse.self,
    ListLogLinesResponse.self, ListNodesResponse.self,
    UserLimitResponse.self, GetServerInfoResponse.self, HealthCheckResponse.self,
    ServerReflectionResponse.self,
]

extension RequestMessage {
    fileprivate static func fuzz(_ bytes: ByteBuffer) {
        var violations: [FieldViolation] = []
        guard let request = try? decode(bytes, into: &violations) else { return }
        switch request {
        case let request as EnqueueRequest:
            _ = request.job?.validated(path: "job.", now: .now, into: &violations)
        case let request as EnqueueBatchRequest:
            for job in request.jobs { _ = job.validated(path: "job.", now: .now, into: &violations) }
        default: break
        }
        guard violations.isEmpty else { return }
        let encoded = request.encode()
        let again = try? decode(encoded, into: &violations)
        precondition(violations.isEmpty && again?.encode() == encoded, "what was read is written as it was")
    }
}

extension ResponseMessage {
    fileprivate static func fuzz(_ bytes: ByteBuffer) {
        guard let answer = try? decode(bytes) else { return }
        let encoded = answer.encode()
        precondition((try? decode(encoded))?.encode() == encoded, "what was read is written as it was")
    }
}
