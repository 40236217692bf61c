import FoundationEssentials
package import JobCore
import Postgres

extension Statement {
    /// Everything about a job but its history; the columns that `JobRecord.init(row:)` reads.
    private static let recordColumns = """
        j.number, j.id, k.name, j.user_id, q.name, j.priority, j.max_attempts, j.created_at,
        j.timeout_ms, j.soft_timeout_ms, j.retry_initial_ms, j.retry_factor, j.retry_max_ms, j.retry_jitter,
        j.content_type, j.idempotency_key, j.labels::text,
        coalesce(f.state::text, CASE WHEN l.state = 'running' THEN 'running' ELSE 'pending' END),
        coalesce(f.sequence, l.sequence), coalesce(f.attempt, l.attempt),
        coalesce(f.max_attempts, l.max_attempts), coalesce(l.due_at, j.due_at),
        coalesce(f.started_at, l.started_at, h.started_at), f.finished_at,
        l.cancel_requested_at IS NOT NULL,
        CASE WHEN f.number IS NOT NULL THEN f.reason ELSE h.reason END,
        CASE WHEN f.number IS NOT NULL THEN f.message ELSE h.message END,
        p.stage, p.fraction, p.message, p.step, p.steps, p.updated_at, j.lane
        """
    private static let recordTables = """
        JOIN lane ON lane.id = j.lane JOIN queue q ON q.id = lane.queue JOIN kind k ON k.id = j.kind
        LEFT JOIN live l ON \(lookUp("l.number", "j.number"))
        LEFT JOIN finished f ON \(lookUp("f.number", "j.number"))
        LEFT JOIN progress p ON \(lookUp("p.number", "j.number")) AND p.attempt = coalesce(f.attempt, l.attempt)
        LEFT JOIN LATERAL (
            SELECT reason, message, started_at FROM history WHERE history.number = j.number
            ORDER BY sequence DESC LIMIT 1) h ON f.number IS NULL
        """
    /// A job that is being removed, or just being moved, is in neither table.
    private static let isWhole = "(l.number IS NOT NULL OR f.number IS NOT NULL)"

    static let findJobs = Statement(
        "find_jobs",
        """
        SELECT \(recordColumns), CASE WHEN octet_length(f.result) <= $2 THEN f.result END, f.result_type
        FROM unnest($1::uuid[]) AS wanted (id) JOIN job j ON \(lookUp("j.id", "wanted.id")) \(recordTables)
        WHERE \(isWhole)
        """)

    static let findNumbers = Statement(
        "find_numbers", "SELECT id, number FROM job WHERE id = ANY ($1::uuid[])")

    static let findPayload = Statement("find_payload", "SELECT payload FROM job WHERE number = $1")

    /// At most $9 jobs are looked at, and no more than it takes to find $10. Where the page is short, `edge` is the
    /// last of those, for the next page.
    static let listJobs = Statement(
        "list_jobs",
        listing(scan: "job.number < $8 ORDER BY job.number DESC LIMIT $9"))

    static let listJobsOfUser = Statement(
        "list_jobs_of_user",
        listing(
            scan: "job.user_id = $1 AND job.number < $8 ORDER BY job.user_id DESC, job.number DESC LIMIT $9"))

    /// The filters look at each job by itself, in order, so that the scan ends with the last job of the page; only
    /// the jobs of the page are read whole.
    private static func listing(scan: String) -> String {
        """
        WITH mine AS MATERIALIZED (
            SELECT j.number
            FROM (SELECT number, lane, kind, user_id, created_at, labels FROM job WHERE \(scan)) j
            CROSS JOIN LATERAL (
                SELECT FROM (SELECT) one
                LEFT JOIN live l ON l.number = j.number LEFT JOIN finished f ON f.number = j.number
                WHERE \(isWhole) AND (cardinality($4::text[]) = 0 OR coalesce(f.state::text,
                    CASE WHEN l.state = 'running' THEN 'running' ELSE 'pending' END) = ANY ($4))
                LIMIT 1) state
            WHERE ($1::text IS NULL OR j.user_id = $1)
                AND ($2::text IS NULL OR (SELECT queue FROM lane WHERE lane.id = j.lane)
                    = (SELECT id FROM queue WHERE name = $2))
                AND ($3::text IS NULL OR j.kind = (SELECT id FROM kind WHERE name = $3))
                AND ($5::jsonb IS NULL OR j.labels @> $5::jsonb)
                AND ($6::timestamptz IS NULL OR j.created_at >= $6)
                AND ($7::timestamptz IS NULL OR j.created_at < $7)
            ORDER BY j.number DESC LIMIT $10
        ), edge AS (
            SELECT min(number) AS number, count(*) AS scanned
            FROM (SELECT number FROM job WHERE \(scan)) j WHERE (SELECT count(*) FROM mine) < $10
        ), page AS (
            SELECT \(recordColumns), NULL::bytea AS result, NULL::text AS result_type
            FROM mine JOIN job j ON \(lookUp("j.number", "mine.number")) \(recordTables)
            WHERE \(isWhole)
        )
        SELECT page.*, edge.number, edge.scanned,
            -- Later numbers are given later, but for what was under way at the same time.
            (SELECT created_at FROM job WHERE job.number = edge.number) < $6 - interval '1 minute'
        FROM edge LEFT JOIN page ON true ORDER BY page.number DESC
        """
    }

    /// Live jobs of a user, or of a user in a queue, in the order in which they came.
    static let snapshotJobsOfUser = Statement(
        "snapshot_jobs_of_user",
        snapshot(
            lanes: "user_id = $1 AND ($2::text IS NULL OR queue = (SELECT id FROM queue WHERE name = $2))"))

    static let snapshotJobsOfQueue = Statement(
        "snapshot_jobs_of_queue",
        snapshot(lanes: "$1::text IS NULL AND queue = (SELECT id FROM queue WHERE name = $2)"))

    /// By the lanes, if they are fewer than $6 and hold fewer than $4 live jobs: then the rest of `live` does not
    /// matter. Those indexes are not in the order of the numbers, so that each page looks at all jobs of the lanes.
    /// Where they are many, `live` is walked by number, $4 jobs a page: they are a good part of it.
    private static func snapshot(lanes: String) -> String {
        """
        WITH lanes AS MATERIALIZED (SELECT id FROM lane WHERE \(lanes) LIMIT $6), own AS MATERIALIZED (
            SELECT l.number FROM lanes CROSS JOIN LATERAL (
                -- Each in words that only the lane's index fits: while the table is empty any other is as good, and
                -- would stay chosen.
                (SELECT number FROM live
                    WHERE state = 'ready' AND live.lane = lanes.id AND number + 0 > $3 LIMIT $4)
                UNION ALL
                (SELECT number FROM live
                    WHERE state = 'running' AND live.lane = lanes.id AND number + 0 > $3 LIMIT $4)
                UNION ALL
                (SELECT number FROM live
                    WHERE state <> 'ready' AND state <> 'running' AND live.lane = lanes.id AND number + 0 > $3
                    LIMIT $4)) l
            WHERE (SELECT count(*) FROM lanes) < $6
            LIMIT $4
        ), size AS MATERIALIZED (
            SELECT (SELECT count(*) FROM lanes) >= $6 OR (SELECT count(*) FROM own) >= $4 AS is_large
        ), scan AS MATERIALIZED (
            SELECT live.number, live.lane FROM live
            WHERE (SELECT is_large FROM size) AND live.number > $3 ORDER BY live.number LIMIT $4
        ), mine AS MATERIALIZED (
            SELECT number FROM (
                SELECT number FROM own WHERE NOT (SELECT is_large FROM size)
                UNION ALL
                SELECT scan.number FROM scan JOIN lane s ON s.id = scan.lane
                WHERE ($1::text IS NULL OR s.user_id = $1)
                    AND ($2::text IS NULL OR s.queue = (SELECT id FROM queue WHERE name = $2))) found
            ORDER BY number LIMIT $5
        ), edge AS (
            SELECT CASE WHEN (SELECT count(*) FROM mine) = $5 THEN (SELECT max(number) FROM mine)
                WHEN (SELECT count(*) FROM scan) = $4 THEN (SELECT max(number) FROM scan) END AS number
        ), page AS (
            SELECT \(recordColumns), NULL::bytea AS result, NULL::text AS result_type
            FROM mine JOIN job j ON \(lookUp("j.number", "mine.number")) \(recordTables)
            WHERE \(isWhole)
        )
        SELECT page.*, edge.number FROM edge LEFT JOIN page ON true ORDER BY page.number
        """
    }

    /// Each job's history after a sequence, one row per end of an attempt or other change, and the present. Of a
    /// history that is too long its beginning: whoever follows a job reads on from there.
    static let findEvents = Statement("find_events", events(history: "ASC"))

    /// Of a history that is too long its end.
    static let findLastEvents = Statement("find_last_events", events(history: "DESC"))

    private static func events(history order: String) -> String {
        """
        SELECT j.number, j.id, k.name, j.user_id, q.name, e.sequence, e.type, e.attempt, node.name,
            e.started_at, e.at, e.due_at, e.reason, e.message, e.result, e.result_type, j.lane
        FROM unnest($1::bigint[], $2::bigint[]) AS wanted (number, after)
        JOIN job j ON \(lookUp("j.number", "wanted.number"))
        JOIN lane ON lane.id = j.lane JOIN queue q ON q.id = lane.queue JOIN kind k ON k.id = j.kind
        CROSS JOIN LATERAL (
            SELECT 1::bigint AS sequence, 'enqueued' AS type, 0 AS attempt, NULL::int AS node,
                NULL::timestamptz AS started_at, j.created_at AS at, j.due_at, NULL::text AS reason,
                NULL::text AS message, NULL::bytea AS result, NULL::text AS result_type
            WHERE wanted.after < 1
            UNION ALL
            (SELECT sequence, type::text, attempt, node, started_at, at, due_at, reason, message, NULL, NULL
            FROM history WHERE history.number = wanted.number AND sequence > wanted.after
            ORDER BY sequence \(order) LIMIT $3)
            UNION ALL
            SELECT sequence, 'started', attempt, node, NULL, started_at, NULL, NULL, NULL, NULL, NULL
            -- As good as state = 'running', which would let the planner walk all that runs while that is little.
            FROM live
            WHERE live.number = wanted.number AND started_at IS NOT NULL AND sequence > wanted.after
            UNION ALL
            SELECT sequence, state::text, attempt, node, started_at, finished_at, NULL, reason, message,
                CASE WHEN octet_length(result) <= $4 THEN result END, result_type
            FROM finished WHERE finished.number = wanted.number AND sequence > wanted.after
        ) e
        LEFT JOIN node ON node.id = e.node
        ORDER BY j.number, e.sequence
        """
    }

    /// The last lines of each job's log after a line.
    static let findLogs = Statement(
        "find_logs",
        """
        SELECT l.line, l.at, l.attempt, l.level, l.message, wanted.number
        FROM unnest($1::bigint[], $2::bigint[]) AS wanted (number, after) CROSS JOIN LATERAL (
            SELECT line, at, attempt, level, message FROM log_line
            WHERE log_line.number = wanted.number AND line > wanted.after
            ORDER BY log_line.number DESC, line DESC LIMIT $3) l
        ORDER BY wanted.number, l.line
        """)

    static let findProgress = Statement(
        "find_progress",
        """
        SELECT number, attempt, stage, fraction, message, step, steps, updated_at, job.id
        FROM progress JOIN job USING (number) WHERE number = ANY ($1::bigint[])
        """)
}

/// A page of jobs, and where the next one begins.
package struct JobPage: Sendable {
    package var jobs: [JobRecord]
    /// Nil: that was all.
    package var next: Int64?
}

extension JobStore {
    /// Jobs that one page looks at.
    private static let jobsScannedMax: Int64 = 10_000
    /// Live jobs that one page of a snapshot looks at, and returns.
    private static let snapshotJobsScannedMax: Int64 = 50_000
    private static let snapshotJobsMax: Int64 = 1000
    /// Lanes in which one page of a snapshot looks for live jobs.
    private static let snapshotLanesMax: Int64 = 10_000

    /// The job with its result, without its history; nil if there is none.
    package func job(_ id: JobID) async throws(StoreError) -> JobRecord? {
        try await jobs([id], resultBytesMax: JobLimits.resultBytesMax).first
    }

    /// The jobs that there are, without their history, in no order. A larger result is left out.
    package func jobs(_ ids: [JobID], resultBytesMax: Int) async throws(StoreError) -> [JobRecord] {
        try await read("jobs") { connection throws(PostgresError) in
            var jobs: [JobRecord] = []
            let result = try connection.execute(
                .findJobs,
                Parameters {
                    $0.append(ids.map(\.uuid))
                    $0.append(Int32(resultBytesMax))
                })
            for row in result { jobs.append(try JobRecord(row)) }
            return jobs
        }
    }

    /// How the database names the jobs that there are.
    package func numbers(of ids: [JobID]) async throws(StoreError) -> [JobID: Int64] {
        try await read("numbers") { connection throws(PostgresError) in
            var numbers: [JobID: Int64] = [:]
            for row in try connection.execute(.findNumbers, Parameters { $0.append(ids.map(\.uuid)) }) {
                numbers[JobID(try row.uuid(0))] = try row.int64(1)
            }
            return numbers
        }
    }

    /// The job with its attempts, its log and, if wanted, its payload.
    package func jobWithHistory(_ id: JobID, payload: Bool) async throws(StoreError) -> JobRecord? {
        guard let found = try await job(id) else { return nil }
        return try await read("history") { connection throws(PostgresError) in
            let results = try connection.transaction(
                [
                    Self.eventsQuery(.findLastEvents, [found.number: 0]),
                    Self.logsQuery([(number: found.number, after: 0)]),
                ] + (payload ? [Query(.findPayload, Parameters { $0.append(found.number) })] : []))
            var job = found
            var changes: [JobChange] = []
            for row in results[0] { changes.append(try JobChange(row)) }
            job.attempts = JobChange.attempts(changes)
            for row in results[1] { job.log.append(try LogLine(row)) }
            if payload { job.spec.payload = try results[2].first?.bytes(0) ?? [] }
            return job
        }
    }

    /// One page of at most `size` jobs, newest first, below the number `before`. It looks at a bounded
    /// number of jobs, so it may be short while there are more.
    package func list(
        _ filter: JobFilter, before: Int64?, size: Int
    ) async throws(StoreError) -> JobPage {
        try await read("list", isLong: true) { connection throws(PostgresError) in
            let result = try connection.execute(
                filter.userID == nil ? .listJobs : .listJobsOfUser,
                Parameters {
                    $0.append(filter.userID)
                    $0.append(filter.queue)
                    $0.append(filter.kind)
                    $0.append(filter.states.map(\.rawValue))
                    $0.append(Labels.json(filter.labels))
                    $0.append(timestamp: filter.createdFrom?.microseconds)
                    $0.append(timestamp: filter.createdTo?.microseconds)
                    $0.append(before ?? .max)
                    $0.append(Self.jobsScannedMax)
                    $0.append(Int64(size))
                })
            return try Self.page(result, size: size)
        }
    }

    /// One page of what is live of a user, a queue or both, above the number `after`.
    package func snapshot(
        userID: String?, queue: String?, after: Int64
    ) async throws(StoreError) -> JobPage {
        try await snapshot(
            userID: userID, queue: queue, after: after, scannedMax: Self.snapshotJobsScannedMax)
    }

    func snapshot(
        userID: String?, queue: String?, after: Int64, scannedMax: Int64
    ) async throws(StoreError) -> JobPage {
        try await read("snapshot", isLong: true) { connection throws(PostgresError) in
            let result = try connection.execute(
                userID == nil ? .snapshotJobsOfQueue : .snapshotJobsOfUser,
                Parameters {
                    $0.append(userID)
                    $0.append(queue)
                    $0.append(after)
                    $0.append(scannedMax)
                    $0.append(Self.snapshotJobsMax)
                    $0.append(Self.snapshotLanesMax)
                })
            var page = JobPage(jobs: [], next: nil)
            for row in result where try !row.isNull(0) { page.jobs.append(try JobRecord(row)) }
            page.next = try result.first?.optionalInt64(36)
            return page
        }
    }

    private static func page(_ result: QueryResult, size: Int) throws(PostgresError) -> JobPage {
        var page = JobPage(jobs: [], next: nil)
        for row in result where try !row.isNull(0) { page.jobs.append(try JobRecord(row)) }
        guard let row = result.first else { return page }
        if page.jobs.count == size {
            page.next = page.jobs.last?.number
        } else if try row.int64(37) == jobsScannedMax, try row.optionalBool(38) != true {
            page.next = try row.optionalInt64(36)
        }
        return page
    }

    /// Every event of each job after a sequence, in order. Of a job with a very long history the first of them, and
    /// the present: there is a gap before that.
    package func events(after sequences: [Int64: Int64]) async throws(StoreError) -> [Int64: [JobEvent]] {
        guard !sequences.isEmpty else { return [:] }
        return try await read("events") { connection throws(PostgresError) in
            let query = Self.eventsQuery(.findEvents, sequences)
            var changes: [Int64: [JobChange]] = [:]
            for row in try connection.execute(query.statement, query.parameters) {
                let change = try JobChange(row)
                changes[change.key.number, default: []].append(change)
            }
            return changes.reduce(into: [:]) { events, item in
                events[item.key] = JobChange.events(item.value, after: sequences[item.key] ?? 0)
            }
        }
    }

    private static func eventsQuery(_ statement: Statement, _ sequences: [Int64: Int64]) -> Query {
        Query(
            statement,
            Parameters {
                $0.append(Array(sequences.keys))
                $0.append(Array(sequences.values))
                $0.append(Int64(JobLimits.attemptsReturnedMax))
                $0.append(Int32(JobLimits.eventResultBytesMax))
            })
    }

    /// The latest progress of each job that has any.
    package func progress(
        of numbers: [Int64]
    ) async throws(StoreError) -> [Int64: (job: JobID, attempt: Int, progress: Progress)] {
        try await read("progress") { connection throws(PostgresError) in
            var found: [Int64: (job: JobID, attempt: Int, progress: Progress)] = [:]
            for row in try connection.execute(.findProgress, Parameters { $0.append(numbers) }) {
                found[try row.int64(0)] = (
                    JobID(try row.uuid(8)), Int(try row.int32(1)),
                    Progress(
                        stage: try row.string(2), fraction: try row.double(3), message: try row.string(4),
                        step: Int(try row.int32(5)), steps: Int(try row.int32(6)),
                        updatedAt: Timestamp(microseconds: try row.timestamp(7)))
                )
            }
            return found
        }
    }

    /// The last lines of each job's log after a line, oldest first. Jobs without any are left out.
    package func logs(
        of wanted: [(number: Int64, after: Int64)]
    ) async throws(StoreError) -> [Int64: [LogLine]] {
        guard !wanted.isEmpty else { return [:] }
        return try await read("logs") { connection throws(PostgresError) in
            let query = Self.logsQuery(wanted)
            var logs: [Int64: [LogLine]] = [:]
            for row in try connection.execute(query.statement, query.parameters) {
                logs[try row.int64(5), default: []].append(try LogLine(row))
            }
            return logs
        }
    }

    private static func logsQuery(_ wanted: [(number: Int64, after: Int64)]) -> Query {
        Query(
            .findLogs,
            Parameters {
                $0.append(wanted.map(\.number))
                $0.append(wanted.map(\.after))
                $0.append(Int64(JobLimits.logLinesKept))
            })
    }
}
