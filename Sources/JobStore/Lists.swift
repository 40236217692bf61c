package import JobModel
import Postgres
import Support

extension Statement {
    /// At most $9 jobs are looked at, and no more than it takes to find $10. Where the page is short, `edge` is the
    /// last of those, for the next page.
    static let listJobs = Statement(
        "list_jobs", listing(scan: "job.number < $8 ORDER BY job.number DESC LIMIT $9"))

    static let listJobsOfUser = Statement(
        "list_jobs_of_user",
        listing(
            scan: """
                job.user_id = ($1::text[])[1] AND job.number < $8
                ORDER BY job.user_id DESC, job.number DESC LIMIT $9
                """))

    /// The filters look at each job by itself, in order, so that the scan ends with the last job of the page; only
    /// the jobs of the page are read whole.
    private static func listing(scan: String) -> String {
        """
        WITH mine AS MATERIALIZED (
            \(matching(scan: scan, order: "j.number DESC"))
        ), edge AS (
            SELECT min(number) AS number, count(*) AS scanned
            FROM (SELECT number FROM job WHERE \(scan)) j WHERE (SELECT count(*) FROM mine) < $10
        ), \(page)
        """
    }

    /// The same for several users: of each the newest $11 jobs are looked at, in the order of the index. Where there are
    /// more, what comes after the newest of those ends is left to the next page: some of it was not looked at.
    static let listJobsOfUsers = Statement(
        "list_jobs_of_users",
        """
        WITH own AS MATERIALIZED (
            SELECT of_user.number FROM unnest($1::text[]) AS u (user_id) CROSS JOIN LATERAL (
                \(matching(scan: ofOneOfUsers + " LIMIT $11", order: "j.user_id DESC, j.number DESC"))) of_user
        ), edge AS MATERIALIZED (
            SELECT max(last.number) AS number, CASE WHEN count(*) > 0 THEN $9 ELSE 0 END AS scanned
            FROM unnest($1::text[]) AS u (user_id)
            CROSS JOIN LATERAL (SELECT number FROM job WHERE \(ofOneOfUsers) OFFSET $11 - 1 LIMIT 1) last
        ), mine AS MATERIALIZED (
            SELECT number FROM own WHERE number >= coalesce((SELECT number FROM edge), 0)
            ORDER BY number DESC LIMIT $10
        ), \(page)
        """)

    /// In words that only the users' index fits, whatever is known of the table.
    private static let ofOneOfUsers = """
        \(lookUp("job.user_id", "u.user_id")) AND job.number < $8 ORDER BY job.user_id DESC, job.number DESC
        """

    private static func matching(scan: String, order: String) -> String {
        """
        SELECT j.number
        FROM (SELECT number, lane, kind, user_id, created_at, labels FROM job WHERE \(scan)) j
        CROSS JOIN LATERAL (
            SELECT FROM (SELECT) one
            LEFT JOIN live l ON l.number = j.number LEFT JOIN finished f ON f.number = j.number
            WHERE \(isWhole) AND (cardinality($4::text[]) = 0 OR \(Self.state) = ANY ($4))
            LIMIT 1) state
        WHERE \(isAllowed("j.user_id", "$1"))
            AND ($2::text IS NULL OR (SELECT queue FROM lane WHERE lane.id = j.lane)
                = (SELECT id FROM queue WHERE name = $2))
            AND ($3::text IS NULL OR j.kind = (SELECT id FROM kind WHERE name = $3))
            AND ($5::jsonb IS NULL OR j.labels @> $5::jsonb)
            AND ($6::timestamptz IS NULL OR j.created_at >= $6)
            AND ($7::timestamptz IS NULL OR j.created_at < $7)
        ORDER BY \(order) LIMIT $10
        """
    }

    private static let page = """
        page AS (
            SELECT \(recordColumns), NULL::bytea AS result, NULL::text AS result_type
            -- In words that only the index of the numbers fits, whatever is known of the table.
            FROM mine CROSS JOIN LATERAL (
                SELECT * FROM job WHERE \(lookUp("number", "mine.number")) ORDER BY number LIMIT 1) j \(recordTables)
            WHERE \(isWhole)
        )
        SELECT page.*, edge.number, edge.scanned,
            -- Later numbers are given later, but for what was under way at the same time.
            (SELECT created_at FROM job WHERE job.number >= edge.number ORDER BY job.number LIMIT 1)
                < $6 - interval '1 minute'
        FROM edge LEFT JOIN page ON true ORDER BY page.number DESC
        """
}

extension JobStore {
    /// Jobs that one page looks at.
    private static let jobsScannedMax: Int64 = 10_000

    /// One page of at most `size` jobs, newest first, below the number `before`. It looks at a bounded
    /// number of jobs, so it may be short while there are more.
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
        let statement: Statement
        // Of each of several users: its share of what may be looked at.
        var share: Int64?
        switch wanted {
        case .all: statement = .listJobs
        case .only(let users) where users.isEmpty: return JobPage(jobs: [], next: nil)
        case .only(let users) where users.count == 1: statement = .listJobsOfUser
        case .only(let users):
            statement = .listJobsOfUsers
            share = max(1, scannedMax / Int64(users.count))
        }
        return try await read("list", isLong: true) { [share] connection throws(PostgresError) in
            let result = try connection.execute(
                statement,
                Parameters {
                    $0.append(wanted)
                    $0.append(filter.queue)
                    $0.append(filter.kind)
                    $0.append(filter.states.map(\.rawValue))
                    $0.append(Labels.json(filter.labels))
                    $0.append(timestamp: filter.createdFrom?.microseconds)
                    $0.append(timestamp: filter.createdTo?.microseconds)
                    $0.append(before ?? .max)
                    $0.append(scannedMax)
                    $0.append(Int64(size))
                    if let share { $0.append(share) }
                })
            var page = JobPage(jobs: [], next: nil)
            for row in result where try !row.isNull(0) { page.jobs.append(try JobRecord(row)) }
            guard let row = result.first else { return page }
            if page.jobs.count == size {
                page.next = page.jobs.last?.number
            } else if try row.int64(37) == scannedMax, try row.optionalBool(38) != true {
                page.next = try row.optionalInt64(36)
            }
            return page
        }
    }
}
