package import JobModel
import Postgres
import Support

/// Cancels a waiting job at once, and asks a running one to stop, which is an event of its own. It returns no row when
/// the job is final, was asked already, has another sequence than expected, is in a state of a newer version, or was
/// claimed or given back between the snapshot and the lock. The conditions on the state are written so that the
/// planner cannot use a partial index.
struct CancelJob: Command, Audited {
    let node: Int32
    let id: JobID
    let note: String
    /// The sequence that the job must have; 0: any.
    let expectedSequence: Int64
    let caller: Caller

    static let statement = ParameterizedStatement<Self>(
        "cancel_job",
        """
        WITH target AS (
            SELECT number FROM job WHERE id = \(\.id) AND \(.isAllowed("user_id", \.caller.users))
        ), gone AS (
            DELETE FROM live USING target
            WHERE \(.lookUp("live.number", "target.number")) AND live.token IS NULL
                AND live.state IN ('scheduled', 'ready') AND \(isExpected)
            RETURNING live.number, live.lane, live.sequence + 1 AS sequence, live.attempt, live.max_attempts
        ), added AS (
            INSERT INTO finished (
                number, state, sequence, attempt, max_attempts, finished_at, cause, reason, message)
            SELECT number, 'cancelled', sequence, attempt, max_attempts, now(), 'cancelled', 'cancelled', \(\.note)
            FROM gone
        ), asked AS (
            UPDATE live SET cancel_requested_at = now(), cancel_reason = \(\.note),
                sequence = live.sequence + 1
            FROM target
            WHERE \(.lookUp("live.number", "target.number")) AND live.token IS NOT NULL AND live.state::text = 'running'
                AND cancel_requested_at IS NULL AND \(isExpected)
            RETURNING live.number, live.lane, live.sequence, live.attempt, live.token, live.started_at, live.node
        ), kept AS (
            INSERT INTO history (number, sequence, type, attempt, node, at, cause, reason, message)
            SELECT number, sequence, 'cancel_requested', attempt, node, now(), 'cancelled', 'cancelled', \(\.note)
            FROM asked
        ), \(announcing), audited AS (
            \(.auditing(
                "cancel", by: .caller, jobs: "ARRAY[\(\.id)]",
                from: "(SELECT FROM gone UNION ALL SELECT FROM asked) done"))
        )
        SELECT gone.number, gone.lane, gone.sequence, gone.attempt, now() AS at, NULL::bigint AS token,
            NULL::timestamptz AS started_at, NULL::int AS node, NULL::text AS node_name
        FROM gone
        UNION ALL
        SELECT asked.number, asked.lane, asked.sequence, asked.attempt, now(), asked.token, asked.started_at, asked.node,
            node.name
        FROM asked LEFT JOIN node ON node.id = asked.node
        """)

    private static let isExpected = SQL<Self>.isExpected("live.sequence", \.expectedSequence)

    private static let announcing = SQL<Self>.announcing(
        """
        SELECT \(\.node), ARRAY[number], ARRAY[lane], ARRAY[sequence], false FROM gone
        UNION ALL
        SELECT \(\.node), ARRAY[number], ARRAY[lane], ARRAY[sequence], true FROM asked
        """)
}

/// Puts a failed or cancelled job back.
struct RetryJob: Command, Audited {
    let node: Int32
    let id: JobID
    /// The sequence that the job must have; 0: any.
    let expectedSequence: Int64
    let caller: Caller

    static let statement = ParameterizedStatement<Self>(
        "retry_job",
        """
        WITH target AS MATERIALIZED (
            SELECT number, lane, kind, priority, max_attempts FROM job
            WHERE id = \(\.id) AND \(.isAllowed("user_id", \.caller.users))
        ), old AS (
            DELETE FROM finished
            WHERE number = (SELECT number FROM target) AND state IN ('failed', 'cancelled')
                AND \(.isExpected("sequence", \.expectedSequence))
            RETURNING *
        ), kept AS (
            INSERT INTO history (
                number, sequence, type, attempt, node, started_at, at, cause, reason, message)
            SELECT number, sequence, (state::text)::event_type, attempt, node, started_at, finished_at,
                cause, reason, message
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
        ), \(.announcing("SELECT \(\.node), ARRAY[number], ARRAY[lane], ARRAY[sequence], false FROM back")),
        audited AS (\(.auditing("retry", by: .caller, jobs: "ARRAY[\(\.id)]", from: "back")))
        SELECT number, lane, sequence, attempt, due_at AS at, NULL::bigint AS token,
            NULL::timestamptz AS started_at, NULL::int AS node, NULL::text AS node_name
        FROM back
        """)
}

extension SQL {
    /// The condition that a job has the sequence that the caller expects; 0: any.
    fileprivate static func isExpected(
        _ column: String, _ expected: any KeyPath<Input, Int64> & Sendable
    ) -> SQL {
        "(\(expected) = 0 OR \(sql: column) = \(expected))"
    }
}

extension JobRecord {
    /// - Parameter expected: 0: any.
    fileprivate func checkSequence(_ expected: Int64) throws(StoreError) {
        guard expected == 0 || sequence == expected else {
            throw .sequenceMismatch(expected: expected, actual: sequence)
        }
    }
}

extension JobStore {
    /// Cancels a job, or asks its run to stop; see `JobService.Cancel`. Returns the job after the change.
    ///
    /// - Parameter expectedSequence: the sequence that the job must have; 0: any. Otherwise nothing is changed, and this
    ///   throws `sequenceMismatch`.
    package func cancel(
        _ id: JobID, note: String, expectedSequence: Int64 = 0, by caller: Caller
    ) async throws(StoreError) -> JobRecord {
        let node = nodeNumber
        for _ in 0..<5 {
            let change = try await write("cancel") { connection throws(PostgresError) -> ChangedRow? in
                try ChangedRow(
                    connection.execute(
                        CancelJob(
                            node: node, id: id, note: note, expectedSequence: expectedSequence, caller: caller
                        )),
                    of: id)
            }
            guard let job = try await jobAfterWrite(id, for: caller.users) else { throw .notFound }
            guard let change else {
                // There was nothing to change, or the job changed between the snapshot and the lock.
                try job.checkSequence(expectedSequence)
                if job.state.isFinal || job.cancelRequested { return job }
                continue
            }
            var changes: [LocalChange] = [
                .event(
                    JobEvent(
                        jobID: id, sequence: change.sequence,
                        type: change.run == nil ? .cancelled : .cancelRequested, at: change.at,
                        attempt: change.attempt, node: change.nodeName,
                        error: JobError(message: note, cause: .cancelled),
                        kind: job.spec.kind,
                        userID: job.spec.userID, queue: job.spec.queue),
                    change.key)
            ]
            if let run = change.run, let owner = change.node {
                changes.append(.cancelRequested(change.key, run, node: owner, note: note))
            }
            publish(changes)
            return job
        }
        throw .unavailable("the job changes too fast to be cancelled: try again")
    }

    /// Puts a failed or cancelled job back; see `JobService.Retry`. Returns the job after the change.
    ///
    /// - Parameter expectedSequence: as in `cancel`.
    package func retry(
        _ id: JobID, expectedSequence: Int64 = 0, by caller: Caller
    ) async throws(StoreError) -> JobRecord {
        let node = nodeNumber
        let change = try await write("retry") { connection throws(PostgresError) -> ChangedRow? in
            try ChangedRow(
                connection.execute(
                    RetryJob(node: node, id: id, expectedSequence: expectedSequence, caller: caller)),
                of: id)
        }
        guard let job = try await jobAfterWrite(id, for: caller.users) else { throw .notFound }
        guard let change else {
            try job.checkSequence(expectedSequence)
            throw .wrongState(job.state)
        }
        publish([
            .event(
                JobEvent(
                    jobID: id, sequence: change.sequence, type: .retried, at: change.at,
                    attempt: change.attempt,
                    dueAt: change.at, kind: job.spec.kind, userID: job.spec.userID, queue: job.spec.queue),
                change.key)
        ])
        return job
    }

    /// Reads the job for the event of a change that was just written. If that fails, watchers are made to read
    /// the change from the database.
    private func jobAfterWrite(_ id: JobID, for users: UserScope) async throws(StoreError) -> JobRecord? {
        do {
            return try await job(id, for: users)
        } catch {
            publish([.uncertain])
            throw error.afterWrite
        }
    }

    /// The row of `CancelJob` or `RetryJob`.
    private struct ChangedRow: Sendable {
        let key: JobKey
        let sequence: Int64
        let attempt: Int
        let at: Timestamp
        /// The run that was asked to stop, and its node.
        let run: RunFence?
        let node: Int32?
        let nodeName: String?

        /// Nil if the statement changed nothing.
        init?(_ result: QueryResult, of id: JobID) throws(PostgresError) {
            guard let row = result.first else { return nil }
            key = JobKey(
                number: try row[result.column("number")], lane: try row[result.column("lane")], id: id)
            sequence = try row[result.column("sequence")]
            let attempt: Int32 = try row[result.column("attempt")]
            self.attempt = Int(attempt)
            at = try row[result.column("at")]
            let token: Int64? = try row[result.column("token")]
            let startedAt: Timestamp? = try row[result.column("started_at")]
            run =
                if let token, let startedAt {
                    RunFence(number: key.number, token: token, startedAt: startedAt)
                } else { nil }
            node = try row[result.column("node")]
            nodeName = try row[result.column("node_name")]
        }
    }
}
