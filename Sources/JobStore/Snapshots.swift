package import JobModel
import Postgres

/// Reads a page of the numbers of live jobs, of some users or of a queue, in the order in which they were added.
struct SnapshotJobs: Sendable {
    let users: UserScope
    let queue: String?
    /// The page has only jobs with higher numbers.
    let after: Int64
    let scannedMax: Int64
    let size: Int64
    let lanesMax: Int64

    static let ofUsers = ParameterizedStatement<Self>(
        "snapshot_jobs_of_users",
        snapshot(
            lanes:
                "user_id = ANY (\(\.users)) AND (\(\.queue) IS NULL OR queue = (SELECT id FROM queue WHERE name = \(\.queue)))"
        ))

    static let ofQueue = ParameterizedStatement<Self>(
        "snapshot_jobs_of_queue",
        snapshot(lanes: "\(\.users) IS NULL AND queue = (SELECT id FROM queue WHERE name = \(\.queue))"))

    /// Reads by the lanes if they are fewer than `lanesMax` and hold fewer than `scannedMax` live jobs, so that
    /// the rest of `live` does not matter. The lanes' indexes are not in the order of the numbers, so each page
    /// reads all jobs of the lanes. Otherwise it walks `live` by number, `scannedMax` jobs a page, because the
    /// lanes' jobs are a good part of it.
    private static func snapshot(lanes: SQL<Self>) -> SQL<Self> {
        """
        WITH lanes AS MATERIALIZED (
            SELECT id FROM lane WHERE \(lanes) LIMIT \(\.lanesMax)
        ), own AS MATERIALIZED (
            SELECT l.number FROM lanes CROSS JOIN LATERAL (
                -- Each part is written so that the planner can only use the lane's index: while the table is empty, any other
                -- plan is as cheap, and would be kept.
                (SELECT number FROM live
                    WHERE state = 'ready' AND live.lane = lanes.id AND number + 0 > \(\.after) LIMIT \(\.scannedMax))
                UNION ALL
                (SELECT number FROM live
                    WHERE state = 'running' AND live.lane = lanes.id AND number + 0 > \(\.after)
                    LIMIT \(\.scannedMax))
                UNION ALL
                (SELECT number FROM live
                    WHERE state <> 'ready' AND state <> 'running' AND live.lane = lanes.id
                        AND number + 0 > \(\.after)
                    LIMIT \(\.scannedMax))) l
            WHERE (SELECT count(*) FROM lanes) < \(\.lanesMax)
            LIMIT \(\.scannedMax)
        ), size AS MATERIALIZED (
            SELECT (SELECT count(*) FROM lanes) >= \(\.lanesMax)
                OR (SELECT count(*) FROM own) >= \(\.scannedMax) AS is_large
        ), scan AS MATERIALIZED (
            SELECT live.number, live.lane FROM live
            WHERE (SELECT is_large FROM size) AND live.number > \(\.after)
            ORDER BY live.number LIMIT \(\.scannedMax)
        ), mine AS MATERIALIZED (
            SELECT number FROM (
                SELECT number FROM own WHERE NOT (SELECT is_large FROM size)
                UNION ALL
                SELECT scan.number FROM scan JOIN lane s ON s.id = scan.lane
                WHERE \(.isAllowed("s.user_id", \.users))
                    AND (\(\.queue) IS NULL OR s.queue = (SELECT id FROM queue WHERE name = \(\.queue)))) found
            ORDER BY number LIMIT \(\.size)
        ), edge AS (
            SELECT CASE WHEN (SELECT count(*) FROM mine) = \(\.size) THEN (SELECT max(number) FROM mine)
                WHEN (SELECT count(*) FROM scan) = \(\.scannedMax) THEN (SELECT max(number) FROM scan) END AS number
        )
        SELECT mine.number, edge.number AS edge_number FROM edge LEFT JOIN mine ON true ORDER BY mine.number
        """
    }
}

/// Reads those of some jobs that are still live.
struct LiveJobs: Command {
    let numbers: [Int64]

    static let statement = ParameterizedStatement<Self>(
        "live_jobs",
        """
        SELECT \(.recordColumns), NULL::bytea AS result, NULL::text AS result_type
        FROM unnest(\(\.numbers)) AS wanted (number) JOIN job j ON \(.lookUp("j.number", "wanted.number"))
        \(.recordTables)
        WHERE l.number IS NOT NULL ORDER BY j.number
        """)
}

extension JobStore {
    /// The most live jobs that one page of a snapshot examines, and the most that it returns.
    private static let snapshotJobsScannedMax: Int64 = 50_000
    private static let snapshotJobsMax: Int64 = 1000
    /// The most lanes in which one page of a snapshot looks for live jobs.
    private static let snapshotLanesMax: Int64 = 10_000

    /// A page of numbers of jobs.
    package struct NumberPage: Sendable {
        package var numbers: [Int64]
        /// The start of the next page; nil if there is none.
        package var next: Int64?
    }

    /// One page of the live jobs of some users, in all queues or in one, above the number `after`. For all users, a queue
    /// must be given.
    ///
    /// It returns only numbers. A caller that sends the jobs to a slow client keeps the numbers, and reads a few jobs at a
    /// time by `liveJobs`.
    package func snapshot(
        of users: UserScope, queue: String?, after: Int64
    ) async throws(StoreError) -> NumberPage {
        try await snapshot(of: users, queue: queue, after: after, scannedMax: Self.snapshotJobsScannedMax)
    }

    /// Reads those of the jobs that are still live.
    package func liveJobs(_ numbers: [Int64]) async throws(StoreError) -> [JobRecord] {
        try await read("live_jobs") { connection throws(PostgresError) in
            try RecordReader.records(try connection.execute(LiveJobs(numbers: numbers)))
        }
    }

    func snapshot(
        of users: UserScope, queue: String?, after: Int64, scannedMax: Int64
    ) async throws(StoreError) -> NumberPage {
        try await read("snapshot", isLong: true) { connection throws(PostgresError) in
            let result = try connection.execute(
                users == .all ? SnapshotJobs.ofQueue : SnapshotJobs.ofUsers,
                SnapshotJobs(
                    users: users, queue: queue, after: after, scannedMax: scannedMax,
                    size: Self.snapshotJobsMax, lanesMax: Self.snapshotLanesMax))
            var page = NumberPage(numbers: [], next: nil)
            let number: Column<Int64?> = try result.column("number")
            for row in result { if let number = try row[number] { page.numbers.append(number) } }
            if let row = result.first { page.next = try row[result.column("edge_number")] }
            return page
        }
    }
}
