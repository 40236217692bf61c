package import JobModel
import Postgres
import Support

extension Statement {
    /// A job that waits is cancelled at once; one that runs is asked to stop. Neither row comes back when
    /// the job is final, is in a state of a newer version, or was claimed or given back between the snapshot and
    /// the lock. The states are checked in words from which no partial index follows.
    static let cancelJob = Statement(
        "cancel_job",
        """
        WITH target AS (
            SELECT number FROM job WHERE id = $2 AND \(isAllowed("user_id", "$4"))
        ), gone AS (
            DELETE FROM live USING target
            WHERE \(lookUp("live.number", "target.number")) AND live.token IS NULL
                AND live.state IN ('scheduled', 'ready')
            RETURNING live.number, live.lane, live.sequence + 1 AS sequence, live.attempt, live.max_attempts
        ), added AS (
            INSERT INTO finished (
                number, state, sequence, attempt, max_attempts, finished_at, reason, message)
            SELECT number, 'cancelled', sequence, attempt, max_attempts, now(), 'cancelled', $3 FROM gone
        ), asked AS (
            UPDATE live SET cancel_requested_at = now(), cancel_reason = $3
            FROM target
            WHERE \(lookUp("live.number", "target.number")) AND live.token IS NOT NULL AND live.state::text = 'running'
                AND cancel_requested_at IS NULL
            RETURNING live.number, live.lane, live.token, live.node
        ), told AS (
            INSERT INTO change (node, jobs, lanes, sequences, cancels)
            SELECT $1, ARRAY[number], ARRAY[lane], ARRAY[sequence], false FROM gone
            UNION ALL
            SELECT $1, ARRAY[number], ARRAY[lane], ARRAY[0::bigint], true FROM asked
        ), audited AS (
            INSERT INTO audit_entry (caller, address, source, action, jobs)
            SELECT $5, $6, $7::audit_source, 'cancel', ARRAY[$2] FROM (SELECT FROM gone UNION ALL SELECT FROM asked) done
        )
        SELECT number, lane, sequence, attempt, now(), NULL::bigint, NULL::int FROM gone
        UNION ALL
        SELECT number, lane, 0, 0, now(), token, node FROM asked
        """)

    static let retryJob = Statement(
        "retry_job",
        """
        WITH target AS MATERIALIZED (
            SELECT number, lane, kind, priority, max_attempts FROM job
            WHERE id = $2 AND \(isAllowed("user_id", "$3"))
        ), old AS (
            DELETE FROM finished
            WHERE number = (SELECT number FROM target) AND state IN ('failed', 'cancelled')
            RETURNING *
        ), kept AS (
            INSERT INTO history (
                number, sequence, type, attempt, node, started_at, at, reason, message)
            SELECT number, sequence, (state::text)::event_type, attempt, node, started_at, finished_at,
                reason, message
            FROM old
        ), undone AS (
            INSERT INTO history (number, sequence, type, attempt, at, due_at)
            SELECT number, sequence + 1, 'retried', attempt, now(), now() FROM old
        ), back AS (
            INSERT INTO live (number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts)
            SELECT old.number, target.lane, target.kind, -target.priority, 'ready', now(), old.sequence + 1,
                old.attempt, old.attempt + target.max_attempts
            FROM old CROSS JOIN target
            RETURNING number, lane, sequence, attempt, due_at
        ), told AS (
            INSERT INTO change (node, jobs, lanes, sequences)
            SELECT $1, ARRAY[number], ARRAY[lane], ARRAY[sequence] FROM back
        ), audited AS (
            INSERT INTO audit_entry (caller, address, source, action, jobs)
            SELECT $4, $5, $6::audit_source, 'retry', ARRAY[$2] FROM back
        )
        SELECT number, lane, sequence, attempt, due_at FROM back
        """)
}

extension JobStore {
    /// Asks for a job's end; see `JobService.Cancel`. Returns the job as it is then.
    package func cancel(
        _ id: JobID, reason: String, by caller: Caller
    ) async throws(StoreError) -> JobRecord {
        let node = nodeNumber
        for _ in 0..<5 {
            let change = try await write("cancel") { connection throws(PostgresError) -> CancelledRow? in
                let result = try connection.execute(
                    .cancelJob,
                    Parameters {
                        $0.append(node)
                        $0.append(id.uuid)
                        $0.append(reason)
                        $0.append(caller.users)
                        $0.append(auditing: caller)
                    })
                guard let row = result.first else { return nil }
                return CancelledRow(
                    key: JobKey(number: try row.int64(0), lane: try row.int64(1), id: id),
                    sequence: try row.int64(2), attempt: Int(try row.int32(3)),
                    at: Timestamp(microseconds: try row.timestamp(4)), token: try row.optionalInt64(5),
                    node: try row.optionalInt32(6))
            }
            guard let job = try await jobAfterWrite(id, for: caller.users) else { throw .notFound }
            guard let change else {
                // Nothing was to be done, or the job moved under our hands.
                if job.state.isFinal || job.cancelRequested { return job }
                continue
            }
            if let token = change.token, let owner = change.node {
                tell([.cancelRequested(change.key, token: token, node: owner, reason: reason)])
            } else {
                tell([
                    .event(
                        JobEvent(
                            jobID: id, sequence: change.sequence, type: .cancelled, at: change.at,
                            attempt: change.attempt,
                            error: JobError(reason: JobError.reasonCancelled, message: reason),
                            kind: job.spec.kind, userID: job.spec.userID, queue: job.spec.queue),
                        change.key)
                ])
            }
            return job
        }
        throw .unavailable("the job changes too fast to be cancelled")
    }

    /// Puts a failed or cancelled job back; see `JobService.Retry`. Returns the job as it is then.
    package func retry(_ id: JobID, by caller: Caller) async throws(StoreError) -> JobRecord {
        let node = nodeNumber
        let change = try await write("retry") { connection throws(PostgresError) -> CancelledRow? in
            let result = try connection.execute(
                .retryJob,
                Parameters {
                    $0.append(node)
                    $0.append(id.uuid)
                    $0.append(caller.users)
                    $0.append(auditing: caller)
                })
            guard let row = result.first else { return nil }
            return CancelledRow(
                key: JobKey(number: try row.int64(0), lane: try row.int64(1), id: id),
                sequence: try row.int64(2), attempt: Int(try row.int32(3)),
                at: Timestamp(microseconds: try row.timestamp(4)), token: nil, node: nil)
        }
        guard let job = try await jobAfterWrite(id, for: caller.users) else { throw .notFound }
        guard let change else { throw .wrongState(job.state) }
        tell([
            .event(
                JobEvent(
                    jobID: id, sequence: change.sequence, type: .retried, at: change.at,
                    attempt: change.attempt,
                    dueAt: change.at, kind: job.spec.kind, userID: job.spec.userID, queue: job.spec.queue),
                change.key)
        ])
        return job
    }

    /// What was written is not told yet: if the job cannot be read for it, watchers look for themselves.
    private func jobAfterWrite(_ id: JobID, for users: UserScope) async throws(StoreError) -> JobRecord? {
        do {
            return try await job(id, for: users)
        } catch {
            tell([.uncertain])
            throw error
        }
    }

    private struct CancelledRow: Sendable {
        var key: JobKey
        var sequence: Int64
        var attempt: Int
        var at: Timestamp
        /// Of a run that was asked to stop.
        var token: Int64?
        var node: Int32?
    }
}
