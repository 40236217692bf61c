package import JobModel
import Postgres
package import Support

extension Statement {
    static let queueStats = Statement(
        "queue_stats",
        """
        WITH wanted AS MATERIALIZED (SELECT id FROM queue WHERE $1::text IS NULL OR name = $1), waits AS (
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
        SELECT q.name, coalesce(w.pending, 0), coalesce(w.scheduled, 0), coalesce(w.running, 0),
            coalesce(e.succeeded, 0), coalesce(e.failed, 0), coalesce(e.cancelled, 0),
            (extract(epoch FROM now() - w.oldest) * 1000000)::bigint,
            coalesce(c.recent, 0), coalesce(e.recent, 0), q.paused
        FROM queue q LEFT JOIN waits w ON w.queue = q.id LEFT JOIN ends e ON e.queue = q.id
        LEFT JOIN come c ON c.queue = q.id
        WHERE q.id IN (SELECT id FROM wanted)
        ORDER BY q.name LIMIT 10000
        """)

    static let listNodes = Statement(
        "list_nodes",
        """
        SELECT node.uid, node.name, node.version, node.started_at, node.heartbeat_at,
            node.ended_at IS NULL AND node.lease_until > now(), node.concurrency,
            (SELECT coalesce(array_agg(kind.name ORDER BY kind.name), '{}') FROM kind
                WHERE kind.id = ANY (node.kinds)),
            (SELECT count(*) FROM live WHERE live.state = 'running' AND live.node = node.id),
            (SELECT coalesce(array_agg(r.id), '{}') FROM (
                SELECT job.id FROM live JOIN job USING (number)
                WHERE live.state = 'running' AND live.node = node.id AND \(isAllowed("job.user_id", "$1"))
                ORDER BY number LIMIT 100) r)
        FROM node
        WHERE (node.ended_at IS NULL OR node.ended_at > now() - interval '1 hour')
            AND node.heartbeat_at > now() - interval '1 hour'
        ORDER BY node.id DESC LIMIT 1000
        """)

    // Only what really changes is in the audit.

    static let pauseQueue = Statement(
        "pause_queue",
        """
        WITH changed AS (
            INSERT INTO queue (name, paused) VALUES ($1, true)
            ON CONFLICT (name) DO UPDATE SET paused = true WHERE NOT queue.paused
            RETURNING name
        )
        INSERT INTO audit_entry (caller, address, source, action, queue)
        SELECT $2, $3, $4::audit_source, 'pause_queue', name FROM changed
        """)

    /// A queue that there is not is not paused, and not made for this.
    static let resumeQueue = Statement(
        "resume_queue",
        """
        WITH changed AS (
            UPDATE queue SET paused = false WHERE name = $1 AND paused RETURNING name
        )
        INSERT INTO audit_entry (caller, address, source, action, queue)
        SELECT $2, $3, $4::audit_source, 'resume_queue', name FROM changed
        """)

    static let setQueueLimit = Statement(
        "set_queue_limit",
        """
        WITH changed AS (
            INSERT INTO queue (name, user_limit) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET user_limit = excluded.user_limit
                WHERE queue.user_limit IS DISTINCT FROM excluded.user_limit
            RETURNING name, user_limit
        )
        INSERT INTO audit_entry (caller, address, source, action, queue, user_limit)
        SELECT $3, $4, $5::audit_source, 'set_queue_limit', name, user_limit FROM changed
        """)

    /// Of a user in a queue that both are there, or have no limit to be cleared.
    static let setUserLimit = Statement(
        "set_user_limit",
        """
        WITH changed AS (
            UPDATE lane SET user_limit = $3 FROM queue
            WHERE queue.name = $1 AND lane.queue = queue.id AND lane.user_id = $2
                AND lane.user_limit IS DISTINCT FROM $3
            RETURNING queue.name, lane.user_id, lane.user_limit
        )
        INSERT INTO audit_entry (caller, address, source, action, queue, user_id, user_limit)
        SELECT $4, $5, $6::audit_source, 'set_user_limit', name, user_id, user_limit FROM changed
        """)

    static let getUserLimit = Statement(
        "get_user_limit",
        """
        SELECT coalesce(l.user_limit, q.user_limit, $3), l.user_limit IS NOT NULL,
            (SELECT count(*) FROM live WHERE live.state = 'running' AND live.lane = l.id)
        FROM (SELECT 1) AS one LEFT JOIN queue q ON q.name = $2
        LEFT JOIN lane l ON l.queue = q.id AND l.user_id = $1
        """)
}

extension JobStore {
    /// Counts every job within retention: for people, not for every second.
    package func queueStats(_ queue: String?) async throws(StoreError) -> [QueueStats] {
        try await read("queue_stats", timeout: .seconds(30), isLong: true) {
            connection throws(PostgresError) in
            var all: [QueueStats] = []
            for row in try connection.execute(.queueStats, Parameters { $0.append(queue) }) {
                var stats = QueueStats(queue: try row.string(0))
                stats.pending = try row.int64(1)
                stats.scheduled = try row.int64(2)
                stats.running = try row.int64(3)
                stats.succeeded = try row.int64(4)
                stats.failed = try row.int64(5)
                stats.cancelled = try row.int64(6)
                stats.oldestPendingAge = try row.optionalInt64(7).map { .microseconds(max(0, $0)) }
                stats.enqueuedPerSecond = Double(try row.int64(8)) / 60
                stats.finishedPerSecond = Double(try row.int64(9)) / 60
                stats.isPaused = try row.bool(10)
                all.append(stats)
            }
            return all
        }
    }

    /// The jobs that run there are named if they are of these users.
    package func nodes(for users: UserScope) async throws(StoreError) -> [NodeRecord] {
        try await read("nodes", isLong: true) { connection throws(PostgresError) in
            var nodes: [NodeRecord] = []
            for row in try connection.execute(.listNodes, Parameters { $0.append(users) }) {
                nodes.append(
                    NodeRecord(
                        id: try row.uuid(0), name: try row.string(1), version: try row.string(2),
                        startedAt: Timestamp(microseconds: try row.timestamp(3)),
                        heartbeatAt: Timestamp(microseconds: try row.timestamp(4)),
                        isAlive: try row.bool(5), concurrency: Int(try row.int32(6)),
                        kinds: try row.stringArray(7), running: Int(try row.int64(8)),
                        runningJobs: try row.uuidArray(9).map { JobID($0) }))
            }
            return nodes
        }
    }

    /// A queue that is unknown can be paused before its first job; that it is not paused changes nothing.
    package func setPaused(
        _ isPaused: Bool, queue: String, by caller: Caller
    ) async throws(StoreError) {
        _ = try await run("pause") { connection throws(PostgresError) in
            try connection.execute(
                isPaused ? .pauseQueue : .resumeQueue,
                Parameters {
                    $0.append(queue)
                    $0.append(auditing: caller)
                }
            ).affectedRows
        }
    }

    /// The limit of every user in a queue that has none of its own, over all nodes.
    package func setQueueLimit(
        _ limit: Int, queue: String, by caller: Caller
    ) async throws(StoreError) {
        _ = try await run("queue_limit") { connection throws(PostgresError) in
            try connection.execute(
                .setQueueLimit,
                Parameters {
                    $0.append(queue)
                    $0.append(Int32(limit))
                    $0.append(auditing: caller)
                }
            ).affectedRows
        }
    }

    /// Nil: back to the queue's limit, which changes nothing of a user who is unknown.
    package func setUserLimit(
        _ limit: Int?, userID: ExactText, queue: String, by caller: Caller
    ) async throws(StoreError) {
        _ = try await run("user_limit") { [catalog] connection throws(PostgresError) in
            if limit != nil { _ = try catalog.lane(queue: queue, userID: userID, connection) }
            return try connection.execute(
                .setUserLimit,
                Parameters {
                    $0.append(queue)
                    $0.append(userID.text)
                    $0.append(limit.map { Int32($0) })
                    $0.append(auditing: caller)
                }
            ).affectedRows
        }
    }

    package func userLimit(
        userID: ExactText, queue: String, default: Int
    ) async throws(StoreError) -> UserLimit {
        try await read("get_user_limit") { connection throws(PostgresError) in
            let row = try connection.execute(
                .getUserLimit,
                Parameters {
                    $0.append(userID.text)
                    $0.append(queue)
                    $0.append(Int32(`default`))
                }
            ).onlyRow
            return UserLimit(
                userID: userID, queue: queue, limit: Int(try row.int32(0)), isOverride: try row.bool(1),
                running: Int(try row.int64(2)))
        }
    }
}
