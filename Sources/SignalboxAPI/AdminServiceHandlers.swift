import JobModel
package import JobService
import SignalboxProto
package import GRPC

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
            .unary(AdminServiceMethod.getQueueStats, maxRequestBytes: Self.requestBytesMax) { bytes, _ in
                var violations: [FieldViolation] = []
                let request = try GetQueueStatsRequest.decode(bytes, into: &violations)
                let queues = try await admin.queueStats(request.queue, found: violations)
                return GetQueueStatsResponse(queues: queues).encode()
            },
            .unary(AdminServiceMethod.listNodes, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                _ = try ListNodesRequest.read(bytes)
                return ListNodesResponse(nodes: try await admin.nodes(for: context.caller)).encode()
            },
            .unary(AdminServiceMethod.pauseQueue, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                var violations: [FieldViolation] = []
                let request = try PauseQueueRequest.decode(bytes, into: &violations)
                try await admin.pause(queue: request.queue, found: violations, by: context.caller)
                return EmptyResponse().encode()
            },
            .unary(AdminServiceMethod.resumeQueue, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                var violations: [FieldViolation] = []
                let request = try ResumeQueueRequest.decode(bytes, into: &violations)
                try await admin.resume(queue: request.queue, found: violations, by: context.caller)
                return EmptyResponse().encode()
            },
            .unary(AdminServiceMethod.setUserLimit, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                var violations: [FieldViolation] = []
                let request = try SetUserLimitRequest.decode(bytes, into: &violations)
                if request.clear, request.limit != 0 {
                    violations.append(
                        FieldViolation(
                            field: "limit", reason: .notAllowedHere, description: "must be 0 with clear"))
                }
                let limit = try await admin.setUserLimit(
                    request.clear ? nil : request.limit, userID: request.userID, queue: request.queue,
                    found: violations, by: context.caller)
                return UserLimitResponse(limit: limit).encode()
            },
            .unary(AdminServiceMethod.getUserLimit, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                var violations: [FieldViolation] = []
                let request = try GetUserLimitRequest.decode(bytes, into: &violations)
                let limit = try await admin.userLimit(
                    userID: request.userID, queue: request.queue, found: violations, for: context.caller)
                return UserLimitResponse(limit: limit).encode()
            },
        ]
    }
}
