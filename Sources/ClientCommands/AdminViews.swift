import JobModel
import SignalboxProto
import Support

struct QueueStatsView: Encodable {
    let queue: String
    let pending: Int64
    let scheduled: Int64
    let running: Int64
    let succeeded: Int64
    let failed: Int64
    let cancelled: Int64
    let oldestPendingAge: String?
    let enqueuedPerSecond: Double
    let finishedPerSecond: Double
    let paused: Bool

    init(_ record: QueueRecord) {
        let stats = record.stats ?? QueueStats(queue: record.name)
        queue = stats.queue
        pending = stats.pending
        scheduled = stats.notDue
        running = stats.running
        succeeded = stats.succeeded
        failed = stats.failed
        cancelled = stats.cancelled
        oldestPendingAge = stats.oldestPendingAge?.text
        enqueuedPerSecond = stats.enqueuedPerSecond
        finishedPerSecond = stats.finishedPerSecond
        paused = record.isPaused
    }
}

struct NodeView: Encodable {
    let id: String
    let name: String
    let version: String
    let startedAt: String
    let lastHeartbeatAt: String
    let alive: Bool
    let concurrency: Int
    let kinds: [String]
    let running: Int
    let runningJobIds: [String]

    init(_ node: NodeRecord) {
        id = JobID(node.id).description
        name = node.name
        version = node.version
        startedAt = node.startedAt.text
        lastHeartbeatAt = node.heartbeatAt.text
        alive = node.isAlive
        concurrency = node.concurrency
        kinds = node.kinds
        running = node.running
        runningJobIds = node.runningJobs.map(\.description)
    }
}

struct UserLimitView: Encodable {
    let userId: String
    let queue: String
    let limit: Int
    let isOverridden: Bool
    let running: Int

    init(_ limit: UserLimitMessage) {
        userId = limit.userID.text
        queue = limit.queue.text
        self.limit = limit.maxRunning ?? 0
        isOverridden = limit.isOverridden
        running = limit.running
    }
}

struct QueuePausedView: Encodable {
    let queue: String
    let paused: Bool
}

struct HealthView: Encodable {
    let status: String
}
