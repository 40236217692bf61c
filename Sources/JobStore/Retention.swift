package import JobModel
import Postgres

/// Removes finished jobs. Only one node does it at a time, and each statement removes a bounded number of jobs,
/// so that other statements do not wait for it.
struct RemoveFinished: Command {
    let retentionMilliseconds: Int64
    let countMax: Int64

    static let statement = ParameterizedStatement<Self>(
        "remove_finished",
        """
        WITH permit AS MATERIALIZED (
            SELECT pg_try_advisory_xact_lock(('finished'::regclass::oid::bigint << 32)) AS mine
        ), old AS (
            SELECT number FROM finished
            WHERE (SELECT mine FROM permit)
                AND finished_at < now() - \(\.retentionMilliseconds) * interval '1 millisecond'
            ORDER BY finished_at LIMIT \(\.countMax)
        ), gone AS (
            DELETE FROM finished USING old WHERE finished.number = old.number RETURNING finished.number
        ), a AS (DELETE FROM job USING gone WHERE job.number = gone.number
        ), b AS (DELETE FROM history USING gone WHERE history.number = gone.number
        ), c AS (DELETE FROM progress USING gone WHERE progress.number = gone.number
        ), d AS (DELETE FROM checkpoint USING gone WHERE checkpoint.number = gone.number
        ), e AS (DELETE FROM log_line USING gone WHERE log_line.number = gone.number)
        SELECT count(*) AS removed FROM gone
        """)
}

/// Removes nodes. The history of jobs names their nodes, so nodes are kept for longer than jobs.
struct RemoveNodes: Command {
    let retentionMilliseconds: Int64

    static let statement = ParameterizedStatement<Self>(
        "remove_nodes",
        """
        DELETE FROM node
        WHERE ended_at < now() - 2 * \(\.retentionMilliseconds) * interval '1 millisecond' - interval '1 day'
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
                    RemoveFinished(
                        retentionMilliseconds: retention.milliseconds, countMax: Int64(countMax))),
                Query(RemoveNodes(retentionMilliseconds: retention.milliseconds)),
            ])
            let removed: Int64 = try results[0].onlyRow[results[0].column("removed")]
            return Int(removed)
        }
    }
}
