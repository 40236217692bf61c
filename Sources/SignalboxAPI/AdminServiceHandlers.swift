import JobModel
import SignalboxProto
package import JobStore
import NIOCore
package import GRPC
import Support

/// `signalbox.v1.AdminService`.
///
/// Queues are everybody's: who may administrate them sees and changes them for all users. Where a user is named it is one
/// for whom the caller may act.
package struct AdminServiceHandlers: Sendable {
    let store: JobStore
    let defaultUserLimit: Int

    /// Names, and no more.
    private static let requestBytesMax = 4 << 10

    /// `defaultUserLimit`: that of a queue which has none of its own.
    package init(store: JobStore, defaultUserLimit: Int) {
        self.store = store
        self.defaultUserLimit = defaultUserLimit
    }

    package var methods: [Method] {
        [
            .unary(AdminServiceMethod.getQueueStats, maxRequestBytes: Self.requestBytesMax) { bytes, _ in
                let request = try GetQueueStatsRequest.read(bytes) {
                    Self.check($0.queue, required: false, &$1)
                }
                return GetQueueStatsResponse(queues: try await store.queueStats(request.queue.nonEmpty?.text))
                    .encode()
            },
            .unary(AdminServiceMethod.listNodes, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                _ = try ListNodesRequest.read(bytes)
                return ListNodesResponse(nodes: try await store.nodes(for: context.caller.users)).encode()
            },
            .unary(AdminServiceMethod.pauseQueue, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                let request = try PauseQueueRequest.read(bytes) { Self.check($0.queue, required: true, &$1) }
                try await store.setPaused(true, queue: request.queue.text, by: context.caller)
                return EmptyResponse().encode()
            },
            .unary(AdminServiceMethod.resumeQueue, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                let request = try ResumeQueueRequest.read(bytes) { Self.check($0.queue, required: true, &$1) }
                try await store.setPaused(false, queue: request.queue.text, by: context.caller)
                return EmptyResponse().encode()
            },
            .unary(AdminServiceMethod.setUserLimit, maxRequestBytes: Self.requestBytesMax) {
                try await setUserLimit($0, by: $1.caller)
            },
            .unary(AdminServiceMethod.getUserLimit, maxRequestBytes: Self.requestBytesMax) {
                try await getUserLimit($0, for: $1.caller)
            },
        ]
    }

    private func setUserLimit(_ bytes: ByteBuffer, by caller: Caller) async throws -> ByteBuffer {
        let request = try SetUserLimitRequest.read(bytes) { request, check in
            Self.check(request.queue, required: false, &check)
            check.userID(request.userID, required: true)
            check.require(
                (0...JobLimits.userLimitMax).contains(request.limit), "limit", "is over 100,000")
            check.require(!request.clear || request.limit == 0, "limit", "must be 0 with clear")
        }
        try caller.check(request.userID, "user_id")
        let queue = request.queue.nonEmpty?.text ?? JobLimits.defaultQueue
        try await store.setUserLimit(
            request.clear ? nil : request.limit, userID: request.userID, queue: queue, by: caller)
        return try await limit(request.userID, queue)
    }

    private func getUserLimit(_ bytes: ByteBuffer, for caller: Caller) async throws -> ByteBuffer {
        let request = try GetUserLimitRequest.read(bytes) { request, check in
            Self.check(request.queue, required: false, &check)
            check.userID(request.userID, required: true)
        }
        try caller.check(request.userID, "user_id")
        return try await limit(request.userID, request.queue.nonEmpty?.text ?? JobLimits.defaultQueue)
    }

    private func limit(_ userID: ExactText, _ queue: String) async throws -> ByteBuffer {
        UserLimitResponse(
            limit: try await store.userLimit(userID: userID, queue: queue, default: defaultUserLimit)
        ).encode()
    }

    private static func check(_ queue: ExactText, required: Bool, _ check: inout FieldCheck) {
        check.name(queue, "queue", bytesMax: JobLimits.queueBytesMax, required: required)
    }
}
