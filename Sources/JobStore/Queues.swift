package import JobModel
import Postgres

/// Finds a queue by its name.
struct FindQueue: Command {
    let name: String

    static let statement = ParameterizedStatement<Self>(
        "find_queue", "SELECT id, name, paused FROM queue WHERE name = \(\.name)")
}

/// Reads a page of queues, in the order of their names.
struct ListQueues: Command {
    /// The number of the queue behind which the page begins; 0: the first page.
    let after: Int64
    let size: Int64

    static let statement = ParameterizedStatement<Self>(
        "list_queues",
        """
        SELECT id, name, paused FROM queue
        WHERE name > coalesce((SELECT name FROM queue WHERE id = \(\.after)), '')
        ORDER BY name LIMIT \(\.size)
        """)
}

/// Counts the jobs of queues, up to a bound.
struct CountQueues: Command {
    /// The numbers of the queues.
    let queues: [Int32]
    /// The most live jobs that it counts in each queue and state.
    var jobsMax = Int64(JobLimits.jobsCountedMax)
    /// The most lanes of each queue in which it looks for live jobs.
    let lanesMax: Int64
    /// The most final jobs, and the most new jobs, that it reads. There is no index of them by queue, so it reads the newest
    /// ones of all queues.
    let scannedMax: Int64

    /// `capped` means that there was more to count.
    static let statement = ParameterizedStatement<Self>(
        "queue_stats",
        """
        WITH latest AS MATERIALIZED (
            SELECT number, state, finished_at FROM finished ORDER BY finished_at DESC LIMIT \(\.scannedMax) + 1
        ), latest_end AS MATERIALIZED (
            SELECT count(*) > \(\.scannedMax) AS is_capped, \(window("min(finished_at)")) AS seconds FROM latest
        ), ends AS MATERIALIZED (
            SELECT lane.queue, count(*) FILTER (WHERE latest.state = 'succeeded') AS succeeded,
                count(*) FILTER (WHERE latest.state = 'failed') AS failed,
                count(*) FILTER (WHERE latest.state = 'cancelled') AS cancelled,
                count(*) FILTER (WHERE latest.finished_at > now() - interval '1 minute') AS recent
            FROM latest JOIN job ON \(.lookUp("job.number", "latest.number"))
            JOIN lane ON \(.lookUp("lane.id", "job.lane"))
            WHERE lane.queue = ANY (\(\.queues)) GROUP BY lane.queue
        ), newest AS MATERIALIZED (
            SELECT lane, created_at FROM job
            -- The numbers after the newest job that is more than a minute old.
            WHERE number > coalesce((
                SELECT number FROM (
                    SELECT number, created_at FROM job ORDER BY number DESC LIMIT \(\.scannedMax) + 1) recent
                WHERE created_at <= now() - interval '1 minute' ORDER BY number DESC LIMIT 1), 0)
            ORDER BY number DESC LIMIT \(\.scannedMax) + 1
        ), newest_end AS MATERIALIZED (
            SELECT \(window("min(created_at)")) AS seconds FROM newest
        ), begins AS MATERIALIZED (
            SELECT lane.queue, count(*) AS recent
            FROM newest JOIN lane ON \(.lookUp("lane.id", "newest.lane"))
            WHERE lane.queue = ANY (\(\.queues)) GROUP BY lane.queue
        )
        SELECT q.id, least(ready.jobs, \(\.jobsMax)) AS ready, least(scheduled.jobs, \(\.jobsMax)) AS scheduled,
            least(running.jobs, \(\.jobsMax)) AS running, coalesce(ends.succeeded, 0) AS succeeded,
            coalesce(ends.failed, 0) AS failed, coalesce(ends.cancelled, 0) AS cancelled,
            (extract(epoch FROM now() - ready.due_at) * 1000000)::bigint AS oldest_age_us,
            coalesce(begins.recent / newest_end.seconds, 0) AS enqueued_per_second,
            coalesce(ends.recent / latest_end.seconds, 0) AS finished_per_second,
            latest_end.is_capped OR greatest(ready.jobs, scheduled.jobs, running.jobs) > \(\.jobsMax)
                OR (SELECT count(*) FROM \(lanes(atMost: "\(\.lanesMax) + 1")) all_lanes) > \(\.lanesMax) AS capped
        FROM unnest(\(\.queues)) AS q (id) CROSS JOIN latest_end CROSS JOIN newest_end
        CROSS JOIN LATERAL \(count(where: "state = 'ready'")) ready
        CROSS JOIN LATERAL \(count(where: "state <> 'ready' AND state <> 'running'")) scheduled
        CROSS JOIN LATERAL \(count(where: "state = 'running'")) running
        LEFT JOIN ends ON ends.queue = q.id LEFT JOIN begins ON begins.queue = q.id
        """)

    /// The seconds of the last minute that rows cover, of which `oldest` is the time of the first: all of them, unless there
    /// were more rows than are read.
    private static func window(_ oldest: SQL<Self>) -> SQL<Self> {
        """
        CASE WHEN count(*) <= \(\.scannedMax) THEN 60::float8
            ELSE least(60, greatest(0.001, extract(epoch FROM now() - \(oldest))))::float8 END
        """
    }

    private static func lanes(atMost countMax: SQL<Self>) -> SQL<Self> {
        "(SELECT id FROM lane WHERE \(.lookUp("lane.queue", "q.id")) LIMIT \(countMax))"
    }

    /// Counts the live jobs of `q` up to one more than `jobsMax`, and returns the earliest due time among them. The
    /// condition is that of an index of the jobs of a lane. A state that this version does not know is not counted.
    private static func count(where condition: SQL<Self>) -> SQL<Self> {
        """
        (SELECT count(*) FILTER (WHERE state IN ('scheduled', 'ready', 'running')) AS jobs, min(due_at) AS due_at FROM (
            SELECT l.due_at, l.state FROM \(lanes(atMost: "\(\.lanesMax)")) lane CROSS JOIN LATERAL (
                SELECT due_at, state FROM live WHERE \(condition) AND live.lane = lane.id LIMIT \(\.jobsMax) + 1) l
            LIMIT \(\.jobsMax) + 1) counted)
        """
    }
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

    /// A queue that does not exist is not added.
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

extension JobStore {
    /// The most lanes, over all queues of a page, in which live jobs are counted.
    private static let lanesCountedMax = 1_000_000
    private static let lanesOfQueueCountedMax = 100_000
    /// The most final jobs, and the most new jobs, that are read to count them.
    static let jobsScannedForStatsMax = 20_000

    /// The queue; nil if no job, setting or limit has named it yet.
    ///
    /// - Parameter stats: whether to count its jobs.
    package func queue(_ name: String, stats: Bool) async throws(StoreError) -> QueueRecord? {
        try await read("queue", isLong: stats) { connection throws(PostgresError) in
            let rows = try QueueReader.read(try connection.execute(FindQueue(name: name)))
            return try Self.withStats(rows, stats, connection).first?.queue
        }
    }

    /// One page of the queues, in the order of their names. The position of a queue is its number.
    ///
    /// - Parameter stats: whether to count their jobs.
    package func queues(
        after position: Int64?, size: Int, stats: Bool
    ) async throws(StoreError) -> StorePage<QueueRecord> {
        try await read("queues", isLong: true) { connection throws(PostgresError) in
            let rows = try QueueReader.read(
                try connection.execute(ListQueues(after: position ?? 0, size: Int64(size + 1))))
            var page = StorePage(rows.map { ($0.queue, Int64($0.id)) }, size: size)
            page.items = try Self.withStats(Array(rows.prefix(size)), stats, connection).map(\.queue)
            return page
        }
    }

    /// Counts the jobs of the queues if `isWanted`.
    private static func withStats(
        _ rows: [(id: Int32, queue: QueueRecord)], _ isWanted: Bool, _ connection: Connection,
        scannedMax: Int = jobsScannedForStatsMax
    ) throws(PostgresError) -> [(id: Int32, queue: QueueRecord)] {
        guard isWanted, !rows.isEmpty else { return rows }
        let lanesMax = min(lanesOfQueueCountedMax, lanesCountedMax / rows.count)
        let counts = try QueueReader.stats(
            try connection.execute(
                CountQueues(
                    queues: rows.map(\.id), lanesMax: Int64(lanesMax), scannedMax: Int64(scannedMax))))
        return rows.map { id, queue in
            var queue = queue
            queue.stats = counts[id] ?? QueueStats(queue: queue.name)
            queue.stats?.queue = queue.name
            return (id, queue)
        }
    }

    /// Pauses or resumes a queue, and returns it. A queue can be paused before its first job. Resuming one that is not
    /// paused changes nothing; nil if it does not exist.
    @discardableResult
    package func setPaused(
        _ isPaused: Bool, queue: String, by caller: Caller
    ) async throws(StoreError) -> QueueRecord? {
        try await run("pause") { connection throws(PostgresError) in
            try connection.execute(
                isPaused ? SetPaused.pause : SetPaused.resume, SetPaused(queue: queue, caller: caller))
            return try QueueReader.read(try connection.execute(FindQueue(name: queue))).first?.queue
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
}

private enum QueueReader {
    static func read(_ result: QueryResult) throws(PostgresError) -> [(id: Int32, queue: QueueRecord)] {
        let id: Column<Int32> = try result.column("id")
        let name: Column<String> = try result.column("name")
        let isPaused: Column<Bool> = try result.column("paused")
        var queues: [(id: Int32, queue: QueueRecord)] = []
        for row in result {
            queues.append((try row[id], QueueRecord(name: try row[name], isPaused: try row[isPaused])))
        }
        return queues
    }

    /// The counts by the number of the queue, without its name.
    static func stats(_ result: QueryResult) throws(PostgresError) -> [Int32: QueueStats] {
        let id: Column<Int32> = try result.column("id")
        let ready: Column<Int64> = try result.column("ready")
        let scheduled: Column<Int64> = try result.column("scheduled")
        let running: Column<Int64> = try result.column("running")
        let succeeded: Column<Int64> = try result.column("succeeded")
        let failed: Column<Int64> = try result.column("failed")
        let cancelled: Column<Int64> = try result.column("cancelled")
        let oldestAge: Column<Int64?> = try result.column("oldest_age_us")
        let enqueued: Column<Double> = try result.column("enqueued_per_second")
        let finished: Column<Double> = try result.column("finished_per_second")
        let isCapped: Column<Bool> = try result.column("capped")
        var all: [Int32: QueueStats] = [:]
        for row in result {
            let notDue = try row[scheduled]
            all[try row[id]] = QueueStats(
                queue: "", pending: try row[ready] + notDue, notDue: notDue, running: try row[running],
                succeeded: try row[succeeded], failed: try row[failed], cancelled: try row[cancelled],
                oldestPendingAge: try row[oldestAge].map { .microseconds(max(0, $0)) },
                enqueuedPerSecond: try row[enqueued], finishedPerSecond: try row[finished],
                isCapped: try row[isCapped])
        }
        return all
    }
}
