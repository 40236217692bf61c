import FoundationEssentials
package import JobModel
import Postgres
package import Support

/// Counts the jobs of one queue, or of each.
struct CountQueues: Command {
    let queue: String?

    static let statement = ParameterizedStatement<Self>(
        "queue_stats",
        """
        WITH wanted AS MATERIALIZED (
            SELECT id FROM queue WHERE \(\.queue) IS NULL OR name = \(\.queue)
        ), waits AS (
            SELECT lane.queue, count(*) FILTER (WHERE state IN ('scheduled', 'ready')) AS pending,
                count(*) FILTER (WHERE state = 'scheduled') AS scheduled,
                count(*) FILTER (WHERE state = 'running') AS running,
                min(due_at) FILTER (WHERE state = 'ready') AS oldest
            FROM live JOIN lane ON lane.id = live.lane
            WHERE lane.queue IN (SELECT id FROM wanted) GROUP BY lane.queue
        ), ends AS (
            SELECT lane.queue, count(*) FILTER (WHERE f.state = 'succeeded') AS succeeded,
                count(*) FILTER (WHERE f.state = 'failed') AS failed,
                count(*) FILTER (WHERE f.state = 'cancelled') AS cancelled,
                count(*) FILTER (WHERE f.finished_at > now() - interval '1 minute') AS recent
            FROM finished f JOIN job ON job.number = f.number JOIN lane ON lane.id = job.lane
            WHERE lane.queue IN (SELECT id FROM wanted) GROUP BY lane.queue
        ), come AS (
            SELECT lane.queue, count(*) AS recent FROM job JOIN lane ON lane.id = job.lane
            WHERE job.number > coalesce((
                SELECT number FROM job WHERE created_at <= now() - interval '1 minute'
                ORDER BY number DESC LIMIT 1), 0)
                AND lane.queue IN (SELECT id FROM wanted)
            GROUP BY lane.queue
        )
        SELECT q.name, coalesce(w.pending, 0) AS pending, coalesce(w.scheduled, 0) AS scheduled,
            coalesce(w.running, 0) AS running, coalesce(e.succeeded, 0) AS succeeded,
            coalesce(e.failed, 0) AS failed, coalesce(e.cancelled, 0) AS cancelled,
            (extract(epoch FROM now() - w.oldest) * 1000000)::bigint AS oldest_age_us,
            coalesce(c.recent, 0) AS enqueued, coalesce(e.recent, 0) AS finished, q.paused
        FROM queue q LEFT JOIN waits w ON w.queue = q.id LEFT JOIN ends e ON e.queue = q.id
        LEFT JOIN come c ON c.queue = q.id
        WHERE q.id IN (SELECT id FROM wanted)
        ORDER BY q.name LIMIT 10000
        """)
}

struct ListNodes: Command {
    /// The users whose running jobs are named.
    let users: UserScope

    static let statement = ParameterizedStatement<Self>(
        "list_nodes",
        """
        SELECT node.uid, node.name, node.version, node.started_at, node.heartbeat_at,
            node.ended_at IS NULL AND node.lease_until > now() AS is_alive, node.concurrency,
            (SELECT coalesce(array_agg(kind.name ORDER BY kind.name), '{}') FROM kind
                WHERE kind.id = ANY (node.kinds)) AS kinds,
            (SELECT count(*) FROM live WHERE live.state = 'running' AND live.node = node.id) AS running,
            (SELECT coalesce(array_agg(r.id), '{}') FROM (
                SELECT job.id FROM live JOIN job USING (number)
                WHERE live.state = 'running' AND live.node = node.id AND \(.isAllowed("job.user_id", \.users))
                ORDER BY number LIMIT 100) r) AS running_jobs
        FROM node
        WHERE (node.ended_at IS NULL OR node.ended_at > now() - interval '1 hour')
            AND node.heartbeat_at > now() - interval '1 hour'
        ORDER BY node.id DESC LIMIT 1000
        """)
}

// These statements write audit entries for real changes only: a command that changes nothing writes no entry.

/// Pauses a queue or resumes it.
struct SetPaused: Audited {
    let queue: String
    let caller: Caller

    static let pause = ParameterizedStatement<Self>(
        "pause_queue",
        """
        WITH changed AS (
            INSERT INTO queue (name, paused) VALUES (\(\.queue), true)
            ON CONFLICT (name) DO UPDATE SET paused = true WHERE NOT queue.paused
            RETURNING name
        )
        \(.auditing("pause_queue", by: .caller, queue: "name", from: "changed"))
        """)

    /// A queue that does not exist is not paused, and is not added.
    static let resume = ParameterizedStatement<Self>(
        "resume_queue",
        """
        WITH changed AS (
            UPDATE queue SET paused = false WHERE name = \(\.queue) AND paused RETURNING name
        )
        \(.auditing("resume_queue", by: .caller, queue: "name", from: "changed"))
        """)
}

struct SetQueueLimit: Command, Audited {
    let queue: String
    let limit: Int32
    let caller: Caller

    static let statement = ParameterizedStatement<Self>(
        "set_queue_limit",
        """
        WITH changed AS (
            INSERT INTO queue (name, user_limit) VALUES (\(\.queue), \(\.limit))
            ON CONFLICT (name) DO UPDATE SET user_limit = excluded.user_limit
                WHERE queue.user_limit IS DISTINCT FROM excluded.user_limit
            RETURNING name, user_limit
        )
        \(.auditing("set_queue_limit", by: .caller, queue: "name", userLimit: "user_limit", from: "changed"))
        """)
}

/// Sets or clears the limit of a user in a queue. It changes nothing if the queue or the user does not exist.
struct SetUserLimit: Command, Audited {
    let queue: String
    let userID: ExactText
    let limit: Int32?
    let caller: Caller

    static let statement = ParameterizedStatement<Self>(
        "set_user_limit",
        """
        WITH changed AS (
            UPDATE lane SET user_limit = \(\.limit) FROM queue
            WHERE queue.name = \(\.queue) AND lane.queue = queue.id AND lane.user_id = \(\.userID)
                AND lane.user_limit IS DISTINCT FROM \(\.limit)
            RETURNING queue.name, lane.user_id, lane.user_limit
        )
        \(.auditing(
            "set_user_limit", by: .caller, queue: "name", userID: "user_id", userLimit: "user_limit",
            from: "changed"))
        """)
}

struct GetUserLimit: Command {
    let userID: ExactText
    let queue: String
    let defaultLimit: Int32

    static let statement = ParameterizedStatement<Self>(
        "get_user_limit",
        """
        SELECT coalesce(l.user_limit, q.user_limit, \(\.defaultLimit)) AS user_limit,
            l.user_limit IS NOT NULL AS is_override,
            (SELECT count(*) FROM live WHERE live.state = 'running' AND live.lane = l.id) AS running
        FROM (SELECT 1) AS one LEFT JOIN queue q ON q.name = \(\.queue)
        LEFT JOIN lane l ON l.queue = q.id AND l.user_id = \(\.userID)
        """)
}

extension JobStore {
    /// Counts the jobs of queues. It reads every job within retention, so it is for operators and must not be
    /// called every second.
    package func queueStats(_ queue: String?) async throws(StoreError) -> [QueueRecord] {
        try await read("queue_stats", timeout: .seconds(30), isLong: true) {
            connection throws(PostgresError) in
            let result = try connection.execute(CountQueues(queue: queue))
            let name: Column<String> = try result.column("name")
            let pending: Column<Int64> = try result.column("pending")
            let scheduled: Column<Int64> = try result.column("scheduled")
            let running: Column<Int64> = try result.column("running")
            let succeeded: Column<Int64> = try result.column("succeeded")
            let failed: Column<Int64> = try result.column("failed")
            let cancelled: Column<Int64> = try result.column("cancelled")
            let oldestAge: Column<Int64?> = try result.column("oldest_age_us")
            let enqueued: Column<Int64> = try result.column("enqueued")
            let finished: Column<Int64> = try result.column("finished")
            let isPaused: Column<Bool> = try result.column("paused")
            var all: [QueueRecord] = []
            for row in result {
                var stats = QueueStats(queue: try row[name])
                stats.pending = try row[pending]
                stats.notDue = try row[scheduled]
                stats.running = try row[running]
                stats.succeeded = try row[succeeded]
                stats.failed = try row[failed]
                stats.cancelled = try row[cancelled]
                stats.oldestPendingAge = try row[oldestAge].map { .microseconds(max(0, $0)) }
                stats.enqueuedPerSecond = Double(try row[enqueued]) / 60
                stats.finishedPerSecond = Double(try row[finished]) / 60
                all.append(QueueRecord(name: stats.queue, isPaused: try row[isPaused], stats: stats))
            }
            return all
        }
    }

    /// Returns the nodes, with the ids of their running jobs that belong to these users.
    package func nodes(for users: UserScope) async throws(StoreError) -> [NodeRecord] {
        try await read("nodes", isLong: true) { connection throws(PostgresError) in
            let result = try connection.execute(ListNodes(users: users))
            let id: Column<UUID> = try result.column("uid")
            let name: Column<String> = try result.column("name")
            let version: Column<String> = try result.column("version")
            let startedAt: Column<Timestamp> = try result.column("started_at")
            let heartbeatAt: Column<Timestamp> = try result.column("heartbeat_at")
            let isAlive: Column<Bool> = try result.column("is_alive")
            let concurrency: Column<Int32> = try result.column("concurrency")
            let kinds: Column<[String]> = try result.column("kinds")
            let running: Column<Int64> = try result.column("running")
            let runningJobs: Column<[JobID]> = try result.column("running_jobs")
            var nodes: [NodeRecord] = []
            for row in result {
                nodes.append(
                    NodeRecord(
                        id: try row[id], name: try row[name], version: try row[version],
                        startedAt: try row[startedAt], heartbeatAt: try row[heartbeatAt],
                        isAlive: try row[isAlive], concurrency: Int(try row[concurrency]),
                        kinds: try row[kinds], running: Int(try row[running]),
                        runningJobs: try row[runningJobs]))
            }
            return nodes
        }
    }

    /// Pauses or resumes a queue. A queue can be paused before its first job. Resuming one that is not paused, or does not
    /// exist, changes nothing.
    package func setPaused(
        _ isPaused: Bool, queue: String, by caller: Caller
    ) async throws(StoreError) {
        _ = try await run("pause") { connection throws(PostgresError) in
            try connection.execute(
                isPaused ? SetPaused.pause : SetPaused.resume, SetPaused(queue: queue, caller: caller)
            ).affectedRows
        }
    }

    /// Sets the limit, over all nodes, of every user in a queue that has no limit of its own.
    package func setQueueLimit(
        _ limit: Int, queue: String, by caller: Caller
    ) async throws(StoreError) {
        _ = try await run("queue_limit") { connection throws(PostgresError) in
            try connection.execute(
                SetQueueLimit(queue: queue, limit: Int32(limit), caller: caller)
            ).affectedRows
        }
    }

    /// Sets a user's limit in a queue. With nil, the queue's limit applies again; for an unknown user, nil
    /// changes nothing.
    package func setUserLimit(
        _ limit: Int?, userID: ExactText, queue: String, by caller: Caller
    ) async throws(StoreError) {
        _ = try await run("user_limit") { [catalog] connection throws(PostgresError) in
            if limit != nil { _ = try catalog.lane(queue: queue, userID: userID, connection) }
            return try connection.execute(
                SetUserLimit(queue: queue, userID: userID, limit: limit.map { Int32($0) }, caller: caller)
            ).affectedRows
        }
    }

    package func userLimit(
        userID: ExactText, queue: String, default: Int
    ) async throws(StoreError) -> UserLimit {
        try await read("get_user_limit") { connection throws(PostgresError) in
            let result = try connection.execute(
                GetUserLimit(userID: userID, queue: queue, defaultLimit: Int32(`default`)))
            let row = try result.onlyRow
            let limit: Int32 = try row[result.column("user_limit")]
            let running: Int64 = try row[result.column("running")]
            return UserLimit(
                userID: userID, queue: queue, maxRunning: Int(limit),
                isOverridden: try row[result.column("is_override")], running: Int(running))
        }
    }
}
