package import JobModel
import Postgres

extension Statement {
    /// Live jobs of some users, or of theirs in a queue, in the order in which they came.
    static let snapshotJobsOfUsers = Statement(
        "snapshot_jobs_of_users",
        snapshot(
            lanes:
                "user_id = ANY ($1::text[]) AND ($2::text IS NULL OR queue = (SELECT id FROM queue WHERE name = $2))"
        ))

    static let snapshotJobsOfQueue = Statement(
        "snapshot_jobs_of_queue",
        snapshot(lanes: "$1::text[] IS NULL AND queue = (SELECT id FROM queue WHERE name = $2)"))

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
                WHERE \(isAllowed("s.user_id", "$1"))
                    AND ($2::text IS NULL OR s.queue = (SELECT id FROM queue WHERE name = $2))) found
            ORDER BY number LIMIT $5
        ), edge AS (
            SELECT CASE WHEN (SELECT count(*) FROM mine) = $5 THEN (SELECT max(number) FROM mine)
                WHEN (SELECT count(*) FROM scan) = $4 THEN (SELECT max(number) FROM scan) END AS number
        )
        SELECT mine.number, edge.number FROM edge LEFT JOIN mine ON true ORDER BY mine.number
        """
    }

    /// Of some jobs those that are live still.
    static let liveJobs = Statement(
        "live_jobs",
        """
        SELECT \(recordColumns), NULL::bytea, NULL::text
        FROM unnest($1::bigint[]) AS wanted (number) JOIN job j ON \(lookUp("j.number", "wanted.number"))
        \(recordTables)
        WHERE l.number IS NOT NULL ORDER BY j.number
        """)
}

extension JobStore {
    /// Live jobs that one page of a snapshot looks at, and names.
    private static let snapshotJobsScannedMax: Int64 = 50_000
    private static let snapshotJobsMax: Int64 = 1000
    /// Lanes in which one page of a snapshot looks for live jobs.
    private static let snapshotLanesMax: Int64 = 10_000

    /// The numbers of some jobs.
    package struct NumberPage: Sendable {
        package var numbers: [Int64]
        /// Nil: that was all.
        package var next: Int64?
    }

    /// One page of what is live of some users, in all queues or in one, above the number `after`. Of all users only in
    /// one queue.
    ///
    /// Numbers alone: whoever sends the jobs to a client that takes its time to read them keeps these meanwhile, and
    /// reads a few jobs at a time by `liveJobs`.
    package func snapshot(
        of users: UserScope, queue: String?, after: Int64
    ) async throws(StoreError) -> NumberPage {
        try await snapshot(of: users, queue: queue, after: after, scannedMax: Self.snapshotJobsScannedMax)
    }

    /// Of these jobs those that are live still.
    package func liveJobs(_ numbers: [Int64]) async throws(StoreError) -> [JobRecord] {
        try await read("live_jobs") { connection throws(PostgresError) in
            var jobs: [JobRecord] = []
            for row in try connection.execute(.liveJobs, Parameters { $0.append(numbers) }) {
                jobs.append(try JobRecord(row))
            }
            return jobs
        }
    }

    func snapshot(
        of users: UserScope, queue: String?, after: Int64, scannedMax: Int64
    ) async throws(StoreError) -> NumberPage {
        try await read("snapshot", isLong: true) { connection throws(PostgresError) in
            let result = try connection.execute(
                users == .all ? .snapshotJobsOfQueue : .snapshotJobsOfUsers,
                Parameters {
                    $0.append(users)
                    $0.append(queue)
                    $0.append(after)
                    $0.append(scannedMax)
                    $0.append(Self.snapshotJobsMax)
                    $0.append(Self.snapshotLanesMax)
                })
            var page = NumberPage(numbers: [], next: nil)
            for row in result where try !row.isNull(0) { page.numbers.append(try row.int64(0)) }
            page.next = try result.first?.optionalInt64(1)
            return page
        }
    }
}
