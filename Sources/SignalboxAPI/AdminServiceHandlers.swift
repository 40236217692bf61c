import JobModel
package import JobService
import SignalboxProto
package import GRPC
import Support

/// `signalbox.v1.AdminService`: decodes the requests, and encodes what `AdminOperations` answers.
package struct AdminServiceHandlers: Sendable {
    /// The largest request: it holds names and a number.
    private static let requestBytesMax = 4 << 10

    private let admin: AdminOperations

    package init(admin: AdminOperations) {
        self.admin = admin
    }

    package var methods: [Method] {
        [
            .unary(AdminServiceMethod.listQueues, maxRequestBytes: Self.requestBytesMax) { bytes, _ in
                _ = try ListQueuesRequest.read(bytes)
                return ListQueuesResponse(queues: try await admin.queues(), nextPageToken: "").encode()
            },
            .unary(AdminServiceMethod.listNodes, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                _ = try ListNodesRequest.read(bytes)
                return ListNodesResponse(
                    nodes: try await admin.nodes(for: context.caller), nextPageToken: ""
                ).encode()
            },
            .unary(AdminServiceMethod.pauseQueue, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                var violations: [FieldViolation] = []
                let request = try PauseQueueRequest.decode(bytes, into: &violations)
                try await admin.pause(queue: request.queue, found: violations, by: context.caller)
                return QueueResponse(
                    queue: QueueRecord(name: request.queue.text, isPaused: true)
                ).encode()
            },
            .unary(AdminServiceMethod.resumeQueue, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                var violations: [FieldViolation] = []
                let request = try ResumeQueueRequest.decode(bytes, into: &violations)
                try await admin.resume(queue: request.queue, found: violations, by: context.caller)
                return QueueResponse(
                    queue: QueueRecord(name: request.queue.text, isPaused: false)
                ).encode()
            },
            .unary(AdminServiceMethod.updateUserLimit, maxRequestBytes: Self.requestBytesMax) {
                bytes, context in
                var violations: [FieldViolation] = []
                let request = try UpdateUserLimitRequest.decode(bytes, into: &violations)
                guard let limit = request.limit else { throw ServiceError.invalid(violations) }
                let result = try await admin.setUserLimit(
                    limit.maxRunning, userID: limit.userID, queue: limit.queue, found: violations,
                    by: context.caller)
                return UserLimitResponse(limit: UserLimitMessage(result)).encode()
            },
            .unary(AdminServiceMethod.getUserLimit, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                var violations: [FieldViolation] = []
                let request = try GetUserLimitRequest.decode(bytes, into: &violations)
                let limit = try await admin.userLimit(
                    userID: request.userID, queue: request.queue, found: violations, for: context.caller)
                return UserLimitResponse(limit: UserLimitMessage(limit)).encode()
            },
        ]
    }
}

extension UserLimitMessage {
    fileprivate init(_ limit: UserLimit) {
        self.init(
            userID: limit.userID, queue: ExactText(limit.queue), maxRunning: limit.maxRunning,
            isOverridden: limit.isOverridden, running: limit.running)
    }
}
