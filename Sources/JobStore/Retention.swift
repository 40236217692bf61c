package import JobModel
import Postgres

extension Statement {
    /// One node at a time, a bounded number of jobs a statement: nothing waits for it.
    static let removeFinished = Statement(
        "remove_finished",
        """
        WITH turn AS MATERIALIZED (
            SELECT pg_try_advisory_xact_lock(('finished'::regclass::oid::bigint << 32)) AS mine
        ), old AS (
            SELECT number FROM finished
            WHERE (SELECT mine FROM turn) AND finished_at < now() - $1 * interval '1 millisecond'
            ORDER BY finished_at LIMIT $2
        ), gone AS (
            DELETE FROM finished USING old WHERE finished.number = old.number RETURNING finished.number
        ), a AS (DELETE FROM job USING gone WHERE job.number = gone.number
        ), b AS (DELETE FROM history USING gone WHERE history.number = gone.number
        ), c AS (DELETE FROM progress USING gone WHERE progress.number = gone.number
        ), d AS (DELETE FROM checkpoint USING gone WHERE checkpoint.number = gone.number
        ), e AS (DELETE FROM log_line USING gone WHERE log_line.number = gone.number)
        SELECT count(*) FROM gone
        """)

    /// A node is named by the history of its jobs for as long as they are kept.
    static let removeNodes = Statement(
        "remove_nodes",
        """
        DELETE FROM node WHERE ended_at < now() - 2 * $1 * interval '1 millisecond' - interval '1 day'
            AND NOT EXISTS (SELECT FROM live WHERE live.state = 'running' AND live.node = node.id)
        """)
}

extension JobStore {
    /// Removes up to `countMax` jobs that became final longer ago than `retention`. Returns how
    /// many.
    package func removeFinished(
        olderThan retention: Duration, atMost countMax: Int
    ) async throws(StoreError) -> Int {
        try await run("retention") { connection throws(PostgresError) in
            let results = try connection.transaction([
                Query(
                    .removeFinished,
                    Parameters {
                        $0.append(retention.milliseconds)
                        $0.append(Int64(countMax))
                    }),
                Query(.removeNodes, Parameters { $0.append(retention.milliseconds) }),
            ])
            return Int(try results[0].onlyRow.int64(0))
        }
    }
}
