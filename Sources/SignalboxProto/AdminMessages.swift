import CSignalboxProto
import CProtobufC
import FoundationEssentials
package import JobModel
package import NIOCore
package import Support

// MARK: - Queues

package struct GetQueueStatsRequest: RequestMessage, Hashable {
    /// Empty: every queue.
    package var queue: ExactText

    package init(queue: ExactText = "") {
        self.queue = queue
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> GetQueueStatsRequest {
        try unsafe decode(bytes, signalbox__v1__get_queue_stats_request__unpack, into: &violations) {
            unsafe GetQueueStatsRequest(queue: $1.queue($0.queue))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__get_queue_stats_request__init) { message, arena in
            unsafe message.queue = arena.text(queue)
        }
    }
}

package struct GetQueueStatsResponse: ResponseMessage, Hashable {
    package var queues: [QueueStats]

    package init(queues: [QueueStats]) {
        self.queues = queues
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> GetQueueStatsResponse {
        try unsafe decode(bytes, signalbox__v1__get_queue_stats_response__unpack) { message, reader in
            let queues = unsafe reader.list(message.n_queues, message.queues) {
                unsafe reader.queueStats($1, "queues[\($0)]")
            }
            return GetQueueStatsResponse(queues: queues)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__get_queue_stats_response__init) { message, arena in
            unsafe (message.n_queues, message.queues) = arena.list(queues, signalbox__v1__queue_stats__init) {
                unsafe arena.fill(&$0, with: $1)
            }
        }
    }
}

package struct PauseQueueRequest: RequestMessage, Hashable {
    package var queue: ExactText

    package init(queue: ExactText = "") {
        self.queue = queue
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> PauseQueueRequest {
        try unsafe decode(bytes, signalbox__v1__pause_queue_request__unpack, into: &violations) {
            unsafe PauseQueueRequest(queue: $1.queue($0.queue))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__pause_queue_request__init) { message, arena in
            unsafe message.queue = arena.text(queue)
        }
    }
}

package struct ResumeQueueRequest: RequestMessage, Hashable {
    package var queue: ExactText

    package init(queue: ExactText = "") {
        self.queue = queue
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> ResumeQueueRequest {
        try unsafe decode(bytes, signalbox__v1__resume_queue_request__unpack, into: &violations) {
            unsafe ResumeQueueRequest(queue: $1.queue($0.queue))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__resume_queue_request__init) { message, arena in
            unsafe message.queue = arena.text(queue)
        }
    }
}

/// PauseQueueResponse and ResumeQueueResponse: they say nothing.
package struct EmptyResponse: ResponseMessage, Hashable {
    package init() {}

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> EmptyResponse {
        try unsafe decode(bytes, signalbox__v1__pause_queue_response__unpack) { _, _ in EmptyResponse() }
    }

    package func encode() -> ByteBuffer {
        ByteBuffer()
    }
}

extension FieldReader {
    fileprivate mutating func queueStats(_ message: Signalbox__V1__QueueStats, _ field: String) -> QueueStats
    {
        var stats = unsafe QueueStats(queue: answerText(message.queue, "\(field).queue").text)
        unsafe stats.pending = Int64(clamping: message.pending)
        unsafe stats.scheduled = Int64(clamping: message.scheduled)
        unsafe stats.running = Int64(clamping: message.running)
        unsafe stats.succeeded = Int64(clamping: message.succeeded)
        unsafe stats.failed = Int64(clamping: message.failed)
        unsafe stats.cancelled = Int64(clamping: message.cancelled)
        unsafe stats.oldestPendingAge = duration(
            message.oldest_pending_age, "\(field).oldest_pending_age")
        unsafe stats.enqueuedPerSecond = message.enqueued_per_second
        unsafe stats.finishedPerSecond = message.finished_per_second
        unsafe stats.isPaused = message.paused != 0
        return stats
    }
}

extension MessageArena {
    fileprivate func fill(_ message: inout Signalbox__V1__QueueStats, with stats: QueueStats) {
        unsafe message.queue = text(stats.queue)
        unsafe message.pending = UInt64(clamping: stats.pending)
        unsafe message.scheduled = UInt64(clamping: stats.scheduled)
        unsafe message.running = UInt64(clamping: stats.running)
        unsafe message.succeeded = UInt64(clamping: stats.succeeded)
        unsafe message.failed = UInt64(clamping: stats.failed)
        unsafe message.cancelled = UInt64(clamping: stats.cancelled)
        unsafe message.oldest_pending_age = duration(stats.oldestPendingAge)
        unsafe message.enqueued_per_second = stats.enqueuedPerSecond
        unsafe message.finished_per_second = stats.finishedPerSecond
        unsafe message.paused = stats.isPaused ? 1 : 0
    }
}

// MARK: - Nodes

package struct ListNodesRequest: RequestMessage, Hashable {
    package init() {}

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> ListNodesRequest {
        try unsafe decode(bytes, signalbox__v1__list_nodes_request__unpack, into: &violations) { _, _ in
            ListNodesRequest()
        }
    }

    package func encode() -> ByteBuffer {
        ByteBuffer()
    }
}

package struct ListNodesResponse: ResponseMessage, Hashable {
    package var nodes: [NodeRecord]

    package init(nodes: [NodeRecord]) {
        self.nodes = nodes
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> ListNodesResponse {
        try unsafe decode(bytes, signalbox__v1__list_nodes_response__unpack) { message, reader in
            let nodes = unsafe reader.list(message.n_nodes, message.nodes) {
                unsafe reader.node($1, "nodes[\($0)]")
            }
            return ListNodesResponse(nodes: nodes)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__list_nodes_response__init) { message, arena in
            unsafe (message.n_nodes, message.nodes) = arena.list(nodes, signalbox__v1__node__init) {
                unsafe arena.fill(&$0, with: $1)
            }
        }
    }
}

extension FieldReader {
    fileprivate mutating func node(_ message: Signalbox__V1__Node, _ field: String) -> NodeRecord {
        let kinds = unsafe values(message.n_kinds, message.kinds).map {
            unsafe answerText($0, "\(field).kinds").text
        }
        let jobs = unsafe values(message.n_running_job_ids, message.running_job_ids).map {
            unsafe jobID($0, "\(field).running_job_ids")
        }
        return unsafe NodeRecord(
            id: jobID(message.id, "\(field).id").uuid, name: answerText(message.name, "\(field).name").text,
            version: answerText(message.version, "\(field).version").text,
            startedAt: requiredTimestamp(message.started_at, "\(field).started_at"),
            heartbeatAt: requiredTimestamp(message.last_heartbeat_at, "\(field).last_heartbeat_at"),
            isAlive: message.alive != 0, concurrency: Int(message.concurrency), kinds: kinds,
            running: Int(message.running), runningJobs: jobs)
    }
}

extension MessageArena {
    fileprivate func fill(_ message: inout Signalbox__V1__Node, with node: NodeRecord) {
        unsafe message.id = text(JobID(node.id).description)
        unsafe message.name = text(node.name)
        unsafe message.version = text(node.version)
        unsafe message.started_at = timestamp(node.startedAt)
        unsafe message.last_heartbeat_at = timestamp(node.heartbeatAt)
        unsafe message.alive = node.isAlive ? 1 : 0
        unsafe message.concurrency = UInt32(clamping: node.concurrency)
        unsafe (message.n_kinds, message.kinds) = array(node.kinds) { unsafe text($0) }
        unsafe message.running = UInt32(clamping: node.running)
        unsafe (message.n_running_job_ids, message.running_job_ids) = array(node.runningJobs) {
            unsafe text($0.description)
        }
    }
}

// MARK: - Limits

package struct SetUserLimitRequest: RequestMessage, Hashable {
    package var userID: ExactText
    package var queue: ExactText
    package var limit: Int
    /// Back to the queue's limit.
    package var clear: Bool

    package init(userID: ExactText = "", queue: ExactText = "", limit: Int = 0, clear: Bool = false) {
        self.userID = userID
        self.queue = queue
        self.limit = limit
        self.clear = clear
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> SetUserLimitRequest {
        try unsafe decode(bytes, signalbox__v1__set_user_limit_request__unpack, into: &violations) {
            message, reader in
            unsafe SetUserLimitRequest(
                userID: reader.userID(message.user_id), queue: reader.queue(message.queue),
                limit: Int(message.limit), clear: message.clear != 0)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__set_user_limit_request__init) { message, arena in
            unsafe message.user_id = arena.text(userID)
            unsafe message.queue = arena.text(queue)
            unsafe message.limit = UInt32(clamping: limit)
            unsafe message.clear = clear ? 1 : 0
        }
    }
}

package struct GetUserLimitRequest: RequestMessage, Hashable {
    package var userID: ExactText
    package var queue: ExactText

    package init(userID: ExactText = "", queue: ExactText = "") {
        self.userID = userID
        self.queue = queue
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> GetUserLimitRequest {
        try unsafe decode(bytes, signalbox__v1__get_user_limit_request__unpack, into: &violations) {
            unsafe GetUserLimitRequest(
                userID: $1.userID($0.user_id), queue: $1.queue($0.queue))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__get_user_limit_request__init) { message, arena in
            unsafe message.user_id = arena.text(userID)
            unsafe message.queue = arena.text(queue)
        }
    }
}

/// SetUserLimitResponse and GetUserLimitResponse: they are the same on the wire.
package struct UserLimitResponse: ResponseMessage, Hashable {
    package var limit: UserLimit

    package init(limit: UserLimit) {
        self.limit = limit
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> UserLimitResponse {
        try unsafe decode(bytes, signalbox__v1__get_user_limit_response__unpack) { message, reader in
            if unsafe message.limit == nil { reader.add("limit", "is required") }
            let limit = unsafe message.limit?.pointee ?? Signalbox__V1__UserLimit()
            return unsafe UserLimitResponse(
                limit: UserLimit(
                    userID: reader.answerText(limit.user_id, "limit.user_id"),
                    queue: reader.answerText(limit.queue, "limit.queue").text, limit: Int(limit.limit),
                    isOverride: limit.is_override != 0, running: Int(limit.running)))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__get_user_limit_response__init) { message, arena in
            unsafe message.limit = arena.make(signalbox__v1__user_limit__init) {
                unsafe $0.user_id = arena.text(limit.userID)
                unsafe $0.queue = arena.text(limit.queue)
                unsafe $0.limit = UInt32(clamping: limit.limit)
                unsafe $0.is_override = limit.isOverride ? 1 : 0
                unsafe $0.running = UInt32(clamping: limit.running)
            }
        }
    }
}
