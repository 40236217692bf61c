package import JobModel
import Postgres
package import Support

/// Counts how many jobs of each user wait, and on request how large their payloads are.
struct CountPending: Sendable {
    let users: [String]
    /// The most jobs that it counts for each user.
    let jobsMax: Int64

    static let jobs = ParameterizedStatement<Self>(
        "count_pending", pending("count(*), 0::bigint FROM (\(waiting)) w"))

    /// Counts jobs and payload bytes. Postgres does not read payloads that it stores out of line (TOAST) to get
    /// their length.
    static let jobsAndBytes = ParameterizedStatement<Self>(
        "sum_pending",
        pending(
            """
            count(*), coalesce(sum(octet_length(job.payload)), 0)::bigint
            FROM (\(waiting)) w JOIN job ON \(.lookUp("job.number", "w.number"))
            """))

    private static func pending(_ counts: SQL<Self>) -> SQL<Self> {
        """
        SELECT u.user_id, c.jobs, c.bytes FROM unnest(\(\.users)) AS u (user_id)
        CROSS JOIN LATERAL (SELECT \(counts)) AS c (jobs, bytes)
        """
    }

    /// The jobs in the user's lanes. Each part is written so that the planner can only use the lane's index.
    private static let waiting: SQL<Self> = """
        SELECT l.number FROM (
            SELECT id FROM lane WHERE \(.lookUp("lane.user_id", "u.user_id")) LIMIT \(sql: String(lanesMax))
        ) lane CROSS JOIN LATERAL (
            (SELECT number FROM live WHERE state = 'ready' AND live.lane = lane.id LIMIT \(\.jobsMax))
            UNION ALL
            (SELECT number FROM live
                WHERE state <> 'ready' AND state <> 'running' AND live.lane = lane.id LIMIT \(\.jobsMax))) l
        LIMIT \(\.jobsMax)
        """

    /// All lanes that a user may have, and those that nodes may have added beyond the limit at the same time.
    private static let lanesMax = 2 * JobLimits.queuesPerUserMax
}

struct FindPayloadSize: Command {
    let id: JobID
    let users: UserScope

    static let statement = ParameterizedStatement<Self>(
        "find_payload_size",
        """
        SELECT user_id, octet_length(payload) AS bytes FROM job
        WHERE id = \(\.id) AND \(.isAllowed("user_id", \.users))
        """)
}

extension JobStore {
    /// The user of a job and the size of its payload; nil if there is no such job.
    package func payloadSize(
        _ id: JobID, for users: UserScope
    ) async throws(StoreError) -> (userID: ExactText, bytes: Int)? {
        try await read("payload_size") { connection throws(PostgresError) in
            let result = try connection.execute(FindPayloadSize(id: id, users: users))
            guard let row = result.first else { return nil }
            let bytes: Int32 = try row[result.column("bytes")]
            return (try row[result.column("user_id")], Int(bytes))
        }
    }

    /// The amount that each user has waiting, over all nodes, counted up to `jobsMax` jobs.
    ///
    /// - Parameter withBytes: whether to add up the sizes of the payloads too, for which each job is read.
    package func pending(
        of users: [String], jobsMax: Int, withBytes: Bool
    ) async throws(StoreError) -> [ExactText: PendingAmount] {
        try await run("pending") { connection throws(PostgresError) in
            let result = try connection.execute(
                withBytes ? CountPending.jobsAndBytes : CountPending.jobs,
                CountPending(users: users, jobsMax: Int64(jobsMax)))
            let userID: Column<ExactText> = try result.column("user_id")
            let jobs: Column<Int64> = try result.column("jobs")
            let bytes: Column<Int64> = try result.column("bytes")
            var pending: [ExactText: PendingAmount] = [:]
            for row in result {
                pending[try row[userID]] = PendingAmount(
                    jobs: Int(try row[jobs]), bytes: Int(try row[bytes]))
            }
            return pending
        }
    }
}
