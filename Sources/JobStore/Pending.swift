package import JobModel
import Postgres
package import Support

extension Statement {
    /// How many jobs of each user wait, counted up to $2.
    static let countPending = Statement("count_pending", pending("count(*), 0::bigint FROM (\(waiting)) w"))

    /// And how much their payloads are. (Those that are stored apart are not read for their length.)
    static let sumPending = Statement(
        "sum_pending",
        pending(
            """
            count(*), coalesce(sum(octet_length(job.payload)), 0)::bigint
            FROM (\(waiting)) w JOIN job ON \(lookUp("job.number", "w.number"))
            """))

    private static func pending(_ counts: String) -> String {
        """
        SELECT u.user_id, c.jobs, c.bytes FROM unnest($1::text[]) AS u (user_id)
        CROSS JOIN LATERAL (SELECT \(counts)) AS c (jobs, bytes)
        """
    }

    /// By the user's lanes; each part in words that only the lane's index fits.
    private static let waiting = """
        SELECT l.number FROM (
            SELECT id FROM lane WHERE \(lookUp("lane.user_id", "u.user_id")) LIMIT \(lanesMax)
        ) lane CROSS JOIN LATERAL (
            (SELECT number FROM live WHERE state = 'ready' AND live.lane = lane.id LIMIT $2)
            UNION ALL
            (SELECT number FROM live
                WHERE state <> 'ready' AND state <> 'running' AND live.lane = lane.id LIMIT $2)) l
        LIMIT $2
        """

    /// All that a user may have, and what nodes that added some at the same time may have added beyond that.
    private static let lanesMax = 2 * JobLimits.queuesPerUserMax

    static let findPayloadSize = Statement(
        "find_payload_size",
        """
        SELECT user_id, octet_length(payload) FROM job WHERE id = $1 AND \(isAllowed("user_id", "$2"))
        """)
}

extension JobStore {
    /// Whose a job is, and how many bytes of payload it has; nil if there is none.
    package func payloadSize(
        _ id: JobID, for users: UserScope
    ) async throws(StoreError) -> (userID: ExactText, bytes: Int)? {
        try await read("payload_size") { connection throws(PostgresError) in
            let result = try connection.execute(
                .findPayloadSize,
                Parameters {
                    $0.append(id.uuid)
                    $0.append(users)
                })
            guard let row = result.first else { return nil }
            return (ExactText(try row.string(0)), Int(try row.int32(1)))
        }
    }

    /// What each user has waiting, over all nodes: looked at are `jobsMax` jobs of each.
    ///
    /// - Parameter withBytes: the sizes of the payloads too, which takes a look at each job.
    package func pending(
        of users: [String], jobsMax: Int, withBytes: Bool
    ) async throws(StoreError) -> [ExactText: PendingQuota.Amount] {
        try await run("pending") { connection throws(PostgresError) in
            let result = try connection.execute(
                withBytes ? .sumPending : .countPending,
                Parameters {
                    $0.append(users)
                    $0.append(Int64(jobsMax))
                })
            var pending: [ExactText: PendingQuota.Amount] = [:]
            for row in result {
                pending[ExactText(try row.string(0))] = PendingQuota.Amount(
                    jobs: Int(try row.int64(1)), bytes: Int(try row.int64(2)))
            }
            return pending
        }
    }
}
