package import JobModel
import Postgres
import Support

extension Statement {
    // A job has a token exactly while it runs (`running_has_token_node_start`): to check the token is to check the state.
    static let finishRuns = Statement(
        "finish_runs",
        """
        WITH input AS (
            SELECT unnest($2::bigint[]) AS number, unnest($3::bigint[]) AS token, unnest($4::text[]) AS state,
                unnest($5::text[]) AS reason, unnest($6::text[]) AS message, unnest($7::bytea[]) AS result,
                unnest($8::text[]) AS result_type
        ), gone AS (
            DELETE FROM live USING input
            WHERE \(lookUp("live.number", "input.number")) AND live.token = input.token
            RETURNING live.number, live.lane, live.token, live.sequence + 1 AS sequence, live.attempt,
                live.max_attempts, live.node, live.started_at, input.state, input.reason, input.message,
                input.result, input.result_type
        ), added AS (
            INSERT INTO finished (
                number, state, sequence, attempt, max_attempts, node, started_at, finished_at, reason,
                message, result, result_type)
            SELECT number, state::final_state, sequence, attempt, max_attempts, node, started_at, now(),
                reason, message, result, result_type
            FROM gone
        ), told AS (
            INSERT INTO change (node, jobs, lanes, sequences)
            SELECT $1, array_agg(number), array_agg(lane), array_agg(sequence) FROM gone HAVING count(*) > 0
        )
        SELECT token, sequence, now() FROM gone
        """)

    static let returnRuns = Statement(
        "return_runs",
        """
        WITH input AS (
            SELECT * FROM unnest(
                $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bool[])
            AS t (number, token, type, reason, message, delay_ms, counts)
        ), old AS MATERIALIZED (
            SELECT live.number, live.token, live.started_at, live.node, live.attempt, input.type,
                input.reason, input.message, input.delay_ms, input.counts, live.cancel_requested_at,
                live.cancel_reason
            FROM live
            JOIN input ON \(lookUp("live.number", "input.number")) AND live.token = input.token
            ORDER BY input.number FOR UPDATE OF live
        ), back AS (
            UPDATE live SET
                state = (CASE WHEN old.delay_ms <= 0 THEN 'ready' ELSE 'scheduled' END)::live_state,
                due_at = now() + old.delay_ms * interval '1 millisecond', sequence = live.sequence + 1,
                attempt = CASE WHEN old.counts THEN live.attempt ELSE live.attempt - 1 END,
                token = NULL, node = NULL, started_at = NULL
            FROM old
            WHERE \(lookUp("live.number", "old.number")) AND live.token = old.token AND old.cancel_requested_at IS NULL
            RETURNING live.number, live.lane, live.sequence, live.due_at
        ), kept AS (
            INSERT INTO history (
                number, sequence, type, attempt, node, started_at, at, due_at, reason, message)
            SELECT number, back.sequence, old.type::event_type, old.attempt, old.node, old.started_at, now(),
                back.due_at, old.reason, old.message
            FROM back JOIN old USING (number)
        ), told AS (
            INSERT INTO change (node, jobs, lanes, sequences)
            SELECT $1, array_agg(number), array_agg(lane), array_agg(sequence) FROM back HAVING count(*) > 0
        )
        SELECT old.token, back.sequence, back.due_at, now(), old.cancel_reason
        FROM old LEFT JOIN back USING (number)
        """)
}

extension JobStore {
    /// Ends a run; calls `completion` once it is committed, on a thread of the store: it must not block. Many calls
    /// share a commit.
    package func finish(
        _ ending: Ending, completion: @escaping @Sendable (Result<EndingOutcome, StoreError>) -> Void
    ) {
        endings.submit(ending, startWriter: startEndings, completion: completion)
    }

    private func startEndings() {
        startWriter(
            endings,
            { [self] endings, connection throws(PostgresError) in try commitEndings(endings, connection) },
            afterwards: { [self] in starter?.endsAreTold() })
    }

    func commitEndings(
        _ endings: [Ending], _ connection: Connection
    ) throws(PostgresError) -> [Result<EndingOutcome, StoreError>] {
        let node = nodeNumber
        // A run that two want to end, its own node and the one that rescues it, is ended by the first.
        var tokens: Set<Int64> = []
        let firsts = endings.indices.filter { tokens.insert(endings[$0].token).inserted }
        let finals = firsts.filter { endings[$0].isFinal }
        let returns = firsts.filter { !endings[$0].isFinal }
        var queries: [Query] = []
        if !finals.isEmpty { queries.append(finishQuery(finals.map { endings[$0] }, node: node)) }
        if !returns.isEmpty { queries.append(returnQuery(returns.map { endings[$0] }, node: node)) }
        var results = try connection.execute(queries).makeIterator()
        var written: [Int64: WrittenEnd] = [:]
        if !finals.isEmpty, let result = results.next() {
            for row in result {
                written[try row.int64(0)] = WrittenEnd(
                    sequence: try row.int64(1), at: Timestamp(microseconds: try row.timestamp(2)))
            }
        }
        if !returns.isEmpty, let result = results.next() {
            for row in result {
                written[try row.int64(0)] = WrittenEnd(
                    sequence: try row.optionalInt64(1),
                    at: Timestamp(microseconds: try row.timestamp(3)),
                    dueAt: try row.optionalTimestamp(2).map { Timestamp(microseconds: $0) },
                    cancelReason: try row.optionalString(4))
            }
        }
        var notices: [Notice] = []
        let outcomes = endings.map { ending -> Result<EndingOutcome, StoreError> in
            guard let end = written.removeValue(forKey: ending.token) else { return .success(.stale) }
            guard let sequence = end.sequence else {
                return .success(.cancelRequested(reason: end.cancelReason ?? ""))
            }
            notices.append(
                .event(ending.event(sequence: sequence, at: end.at, dueAt: end.dueAt), ending.key))
            return .success(.written)
        }
        tell(notices)
        return outcomes
    }

    private struct WrittenEnd: Sendable {
        var sequence: Int64?
        var at: Timestamp
        var dueAt: Timestamp?
        var cancelReason: String?
    }
}

private func finishQuery(_ endings: [Ending], node: Int32) -> Query {
    var states: [String] = []
    var errors: [JobError?] = []
    var results: [JobResult?] = []
    for case .final(let type, let error, let result) in endings.map(\.verdict) {
        states.append(type.to.rawValue)
        errors.append(error)
        results.append(result)
    }
    return Query(
        .finishRuns,
        Parameters {
            $0.append(node)
            $0.append(endings.map(\.key.number))
            $0.append(endings.map(\.token))
            $0.append(states)
            $0.append(errors.map { $0?.reason })
            $0.append(errors.map { $0?.message })
            $0.append(byteArrays: results.map { $0?.data })
            $0.append(results.map { $0?.contentType.text })
        })
}

private func returnQuery(_ endings: [Ending], node: Int32) -> Query {
    var types: [String] = []
    var errors: [JobError] = []
    var delays: [Int64] = []
    var counts: [Bool] = []
    for case .again(let type, let error, let delay, let countsAttempt) in endings.map(\.verdict) {
        types.append(type.rawValue)
        errors.append(error)
        delays.append(delay.milliseconds)
        counts.append(countsAttempt)
    }
    return Query(
        .returnRuns,
        Parameters {
            $0.append(node)
            $0.append(endings.map(\.key.number))
            $0.append(endings.map(\.token))
            $0.append(types)
            $0.append(errors.map(\.reason))
            $0.append(errors.map(\.message))
            $0.append(delays)
            $0.append(counts)
        })
}

extension Ending {
    var isFinal: Bool {
        if case .final = verdict { true } else { false }
    }

    func event(sequence: Int64, at: Timestamp, dueAt: Timestamp?) -> JobEvent {
        func event(_ type: JobEventType, _ error: JobError?, _ result: JobResult? = nil) -> JobEvent {
            JobEvent(
                jobID: key.id, sequence: sequence, type: type, at: at, attempt: run.attempt, node: node,
                error: error, dueAt: dueAt, result: result, kind: run.spec.kind, userID: run.spec.userID,
                queue: run.spec.queue)
        }
        switch verdict {
        case .final(let type, let error, let result):
            return event(
                type, error, result.flatMap { $0.data.count <= JobLimits.eventResultBytesMax ? $0 : nil })
        case .again(let type, let error, _, _):
            return event(type, error)
        }
    }
}
