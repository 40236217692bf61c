package import JobModel
import Postgres
import Support

/// Reads a page of jobs, newest first.
struct ListJobs: Sendable {
    let users: UserScope
    let queue: String?
    /// The wanted kinds; empty: all kinds.
    let kinds: [String]
    /// The wanted states; empty: all states.
    let states: [String]
    let labels: String?
    let createdFrom: Timestamp?
    let createdTo: Timestamp?
    /// The page has only jobs with lower numbers.
    let before: Int64
    /// The most jobs that the page examines. It stops at `size` matching jobs. `edge_number` is the last job that
    /// was examined, behind which the next page begins if this page is short.
    let scannedMax: Int64
    let size: Int64
    /// The most jobs that it examines for each of several users.
    let share: Int64

    static let all = ParameterizedStatement<Self>(
        "list_jobs", listing(scan: "job.number < \(\.before) ORDER BY job.number DESC LIMIT \(\.scannedMax)"))

    static let ofUser = ParameterizedStatement<Self>(
        "list_jobs_of_user",
        listing(
            scan: """
                job.user_id = (\(\.users))[1] AND job.number < \(\.before)
                ORDER BY job.user_id DESC, job.number DESC LIMIT \(\.scannedMax)
                """))

    /// Applies the filters to each job by itself, in order, so that the scan ends with the last job of the page.
    /// Only the jobs of the page are read whole.
    private static func listing(scan: SQL<Self>) -> SQL<Self> {
        """
        WITH mine AS MATERIALIZED (
            \(matching(scan: scan, order: "j.number DESC"))
        ), edge AS (
            SELECT min(number) AS number, count(*) AS scanned
            FROM (SELECT number FROM job WHERE \(scan)) j WHERE (SELECT count(*) FROM mine) < \(\.size)
        ), \(page)
        """
    }

    /// Examines the newest `share` jobs of each user, in the order of the index. If a user has more, the page
    /// ends where the first of these scans ended, and the next page begins there, because below it some jobs were
    /// not examined.
    static let ofUsers = ParameterizedStatement<Self>(
        "list_jobs_of_users",
        """
        WITH own AS MATERIALIZED (
            SELECT of_user.number FROM unnest(\(\.users)) AS u (user_id) CROSS JOIN LATERAL (
                \(matching(
                    scan: "\(ofOneOfUsers) LIMIT \(\.share)", order: "j.user_id DESC, j.number DESC"))) of_user
        ), edge AS MATERIALIZED (
            SELECT max(last.number) AS number, CASE WHEN count(*) > 0 THEN \(\.scannedMax) ELSE 0 END AS scanned
            FROM unnest(\(\.users)) AS u (user_id)
            CROSS JOIN LATERAL (SELECT number FROM job WHERE \(ofOneOfUsers) OFFSET \(\.share) - 1 LIMIT 1) last
        ), mine AS MATERIALIZED (
            SELECT number FROM own WHERE number >= coalesce((SELECT number FROM edge), 0)
            ORDER BY number DESC LIMIT \(\.size)
        ), \(page)
        """)

    /// The condition on the user. It is written so that the planner can only use the user index, even without
    /// statistics.
    private static let ofOneOfUsers: SQL<Self> = """
        \(.lookUp("job.user_id", "u.user_id")) AND job.number < \(\.before) ORDER BY job.user_id DESC, job.number DESC
        """

    private static func matching(scan: SQL<Self>, order: SQL<Self>) -> SQL<Self> {
        """
        SELECT j.number
        FROM (SELECT number, lane, kind, user_id, created_at, labels FROM job WHERE \(scan)) j
        CROSS JOIN LATERAL (
            SELECT FROM (SELECT) one
            LEFT JOIN live l ON l.number = j.number LEFT JOIN finished f ON f.number = j.number
            WHERE \(.isWhole) AND (cardinality(\(\.states)) = 0 OR \(.state) = ANY (\(\.states)))
            LIMIT 1) state
        WHERE \(.isAllowed("j.user_id", \.users))
            AND (\(\.queue) IS NULL OR (SELECT queue FROM lane WHERE lane.id = j.lane)
                = (SELECT id FROM queue WHERE name = \(\.queue)))
            AND (cardinality(\(\.kinds)) = 0
                OR j.kind = ANY (ARRAY(SELECT id FROM kind WHERE name = ANY (\(\.kinds)))))
            AND (\(\.labels)::jsonb IS NULL OR j.labels @> \(\.labels)::jsonb)
            AND (\(\.createdFrom) IS NULL OR j.created_at >= \(\.createdFrom))
            AND (\(\.createdTo) IS NULL OR j.created_at < \(\.createdTo))
        ORDER BY \(order) LIMIT \(\.size)
        """
    }

    private static let page: SQL<Self> = """
        page AS (
            SELECT \(.recordColumns), NULL::bytea AS result, NULL::text AS result_type
            -- Written so that the planner can only use the primary key, even without statistics.
            FROM mine CROSS JOIN LATERAL (
                SELECT * FROM job WHERE \(.lookUp("number", "mine.number")) ORDER BY number LIMIT 1) j \(.recordTables)
            WHERE \(.isWhole)
        )
        SELECT page.*, edge.number AS edge_number, edge.scanned,
            -- Jobs with higher numbers were created later, except those that were added at the same time.
            (SELECT created_at FROM job WHERE job.number >= edge.number ORDER BY job.number LIMIT 1)
                < \(\.createdFrom) - interval '1 minute' AS is_past
        FROM edge LEFT JOIN page ON true ORDER BY page.number DESC
        """
}

extension JobStore {
    /// The most jobs that one page examines.
    private static let jobsScannedMax: Int64 = 10_000

    /// One page of at most `size` jobs, newest first, below the number `before`. It examines a bounded number of
    /// jobs, so it may be short while there are more.
    package func list(
        _ filter: JobFilter, for users: UserScope, before: Int64?, size: Int
    ) async throws(StoreError) -> JobPage {
        try await list(filter, for: users, before: before, size: size, scannedMax: Self.jobsScannedMax)
    }

    func list(
        _ filter: JobFilter, for users: UserScope, before: Int64?, size: Int, scannedMax: Int64
    ) async throws(StoreError) -> JobPage {
        let wanted: UserScope
        if let userID = filter.userID {
            guard users.contains(userID) else { return JobPage(jobs: [], next: nil) }
            wanted = .only([userID])
        } else {
            wanted = users
        }
        let statement: ParameterizedStatement<ListJobs>
        var share: Int64 = 0
        switch wanted {
        case .all: statement = ListJobs.all
        case .only(let users) where users.isEmpty: return JobPage(jobs: [], next: nil)
        case .only(let users) where users.count == 1: statement = ListJobs.ofUser
        case .only(let users):
            statement = ListJobs.ofUsers
            share = max(1, scannedMax / Int64(users.count))
        }
        let list = ListJobs(
            users: wanted, queue: filter.queue, kinds: Array(filter.kinds),
            states: filter.states.map(\.rawValue),
            labels: Labels.json(filter.labels), createdFrom: filter.createdFrom, createdTo: filter.createdTo,
            before: before ?? .max, scannedMax: scannedMax, size: Int64(size), share: share)
        return try await read("list", isLong: true) { connection throws(PostgresError) in
            let result = try connection.execute(statement, list)
            var page = JobPage(jobs: try RecordReader.records(result), next: nil)
            guard let row = result.first else { return page }
            let scanned: Int64 = try row[result.column("scanned")]
            let isPast: Bool? = try row[result.column("is_past")]
            if page.jobs.count == size {
                page.next = page.jobs.last?.number
            } else if scanned == scannedMax, isPast != true {
                page.next = try row[result.column("edge_number")]
            }
            return page
        }
    }
}
