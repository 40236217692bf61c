import JobModel
package import JobService
import SignalboxProto
import NIOCore
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
        queueMethods + limitMethods + [method(AdminServiceMethod.listNodes, listNodes)]
    }

    private var queueMethods: [Method] {
        [
            method(AdminServiceMethod.getQueue) { (request: GetQueueRequest, violations, _) in
                QueueResponse(
                    queue: try await admin.queue(
                        request.queue, stats: request.includeStats, found: violations)
                ).encode()
            },
            method(AdminServiceMethod.listQueues) { (request: ListQueuesRequest, violations, caller) in
                try await admin.queues(
                    PageRequest(size: request.pageSize, token: request.pageToken),
                    stats: request.includeStats, found: violations, for: caller
                ).encode { ListQueuesResponse(queues: $0, nextPageToken: $1).encode() }
            },
            method(AdminServiceMethod.pauseQueue) { (request: PauseQueueRequest, violations, caller) in
                QueueResponse(
                    queue: try await admin.pause(queue: request.queue, found: violations, by: caller)
                ).encode()
            },
            method(AdminServiceMethod.resumeQueue) { (request: ResumeQueueRequest, violations, caller) in
                QueueResponse(
                    queue: try await admin.resume(queue: request.queue, found: violations, by: caller)
                ).encode()
            },
        ]
    }

    private var limitMethods: [Method] {
        [
            method(AdminServiceMethod.getUserLimit) { (request: GetUserLimitRequest, violations, caller) in
                let limit = try await admin.userLimit(
                    userID: request.userID, queue: request.queue, found: violations, for: caller)
                return UserLimitResponse(limit: UserLimitMessage(limit)).encode()
            },
            method(AdminServiceMethod.listUserLimits) {
                (request: ListUserLimitsRequest, violations, caller) in
                try await admin.userLimits(
                    userID: request.userID, queue: request.queue,
                    PageRequest(size: request.pageSize, token: request.pageToken), found: violations,
                    for: caller
                ).encode {
                    ListUserLimitsResponse(limits: $0.map { UserLimitMessage($0) }, nextPageToken: $1)
                        .encode()
                }
            },
            method(AdminServiceMethod.updateUserLimit) {
                (request: UpdateUserLimitRequest, violations, caller) in
                guard let limit = request.limit else { throw ServiceError.invalid(violations) }
                let change = UserLimitChange(
                    userID: limit.userID, queue: limit.queue, maxRunning: limit.maxRunning,
                    mask: request.updateMask?.paths ?? [])
                let result = try await admin.updateUserLimit(change, found: violations, by: caller)
                return UserLimitResponse(limit: UserLimitMessage(result)).encode()
            },
        ]
    }

    private func listNodes(
        _ request: ListNodesRequest, _ violations: [FieldViolation], for caller: Caller
    ) async throws -> ByteBuffer {
        try await admin.nodes(
            PageRequest(size: request.pageSize, token: request.pageToken), found: violations, for: caller
        ).encode { ListNodesResponse(nodes: $0, nextPageToken: $1).encode() }
    }

    /// - Parameter body: gets the request, the fields of it that are wrong in themselves, and the caller.
    private func method<Request: RequestMessage>(
        _ path: String,
        _ body: @escaping @Sendable (Request, [FieldViolation], Caller) async throws -> ByteBuffer
    ) -> Method {
        .unary(path, maxRequestBytes: Self.requestBytesMax) { bytes, context in
            var violations: [FieldViolation] = []
            let request = try Request.decode(bytes, into: &violations)
            return try await body(request, violations, context.caller)
        }
    }
}

extension UserLimitMessage {
    fileprivate init(_ limit: UserLimit) {
        self.init(
            userID: limit.userID, queue: ExactText(limit.queue), maxRunning: limit.maxRunning,
            isOverridden: limit.isOverridden, running: limit.running)
    }
}
