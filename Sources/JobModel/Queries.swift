package import FoundationEssentials
package import Support

/// Selects jobs: those that match all given fields.
package struct JobFilter: Sendable, Hashable {
    package var userID: ExactText?
    package var queue: String?
    /// The wanted kinds; empty: every kind.
    // exact: kinds are names that were checked to be ASCII.
    package var kinds: Set<String> = []
    /// The wanted states; empty: every state.
    package var states: Set<JobState> = []
    package var labels: [ExactText: ExactText] = [:]
    package var createdFrom: Timestamp?
    package var createdTo: Timestamp?

    package init() {}
}

/// The numbers of jobs in a queue. At most `JobLimits.jobsCountedMax` of each state are counted.
package struct QueueStats: Sendable, Hashable {
    package var queue: String
    /// The jobs that wait, including those that are not due yet.
    package var pending: Int64
    package var notDue: Int64
    package var running: Int64
    package var succeeded: Int64
    package var failed: Int64
    package var cancelled: Int64
    package var oldestPendingAge: Duration?
    package var enqueuedPerSecond: Double
    package var finishedPerSecond: Double
    /// Whether not all jobs were counted: then the numbers may be less than the truth.
    package var isCapped: Bool

    package init(
        queue: String, pending: Int64 = 0, notDue: Int64 = 0, running: Int64 = 0, succeeded: Int64 = 0,
        failed: Int64 = 0, cancelled: Int64 = 0, oldestPendingAge: Duration? = nil,
        enqueuedPerSecond: Double = 0, finishedPerSecond: Double = 0, isCapped: Bool = false
    ) {
        self.queue = queue
        self.pending = pending
        self.notDue = notDue
        self.running = running
        self.succeeded = succeeded
        self.failed = failed
        self.cancelled = cancelled
        self.oldestPendingAge = oldestPendingAge
        self.enqueuedPerSecond = enqueuedPerSecond
        self.finishedPerSecond = finishedPerSecond
        self.isCapped = isCapped
    }
}

/// A queue.
package struct QueueRecord: Sendable, Hashable {
    package var name: String
    package var isPaused: Bool
    /// The numbers of its jobs, where they were asked for.
    package var stats: QueueStats?

    package init(name: String, isPaused: Bool, stats: QueueStats? = nil) {
        self.name = name
        self.isPaused = isPaused
        self.stats = stats
    }
}

/// The outcome of an Enqueue.
package enum EnqueueDisposition: Sendable, Hashable, CaseIterable {
    case created
    /// A job with the same id or idempotency key and the same content existed.
    case sameRequest
}

/// A server process, as other nodes see it.
package struct NodeRecord: Sendable, Hashable {
    package var id: UUID
    package var name: String
    package var version: String
    package var startedAt: Timestamp
    package var heartbeatAt: Timestamp
    package var isAlive: Bool
    package var concurrency: Int
    package var kinds: [String]
    package var running: Int
    /// The ids of its first 100 running jobs.
    package var runningJobs: [JobID]

    package init(
        id: UUID, name: String, version: String, startedAt: Timestamp, heartbeatAt: Timestamp,
        isAlive: Bool, concurrency: Int, kinds: [String], running: Int, runningJobs: [JobID]
    ) {
        self.id = id
        self.name = name
        self.version = version
        self.startedAt = startedAt
        self.heartbeatAt = heartbeatAt
        self.isAlive = isAlive
        self.concurrency = concurrency
        self.kinds = kinds
        self.running = running
        self.runningJobs = runningJobs
    }
}

/// The limit of how many jobs of a user run at once in a queue.
package struct UserLimit: Sendable, Hashable {
    package var userID: ExactText
    package var queue: String
    package var maxRunning: Int
    /// Whether the limit was set for this user. Otherwise it is the queue's.
    package var isOverridden: Bool
    package var running: Int

    package init(userID: ExactText, queue: String, maxRunning: Int, isOverridden: Bool, running: Int) {
        self.userID = userID
        self.queue = queue
        self.maxRunning = maxRunning
        self.isOverridden = isOverridden
        self.running = running
    }
}
