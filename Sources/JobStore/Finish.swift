package import JobModel
import Postgres
import Support

/// Ends runs whose jobs become final.
struct FinishRuns: Command {
    let node: Int32
    let numbers: [Int64]
    let tokens: [Int64]
    let startedAts: [Timestamp]
    let states: [String]
    let causes: [String?]
    let reasons: [String?]
    let messages: [String?]
    let results: [[UInt8]?]
    let resultTypes: [ExactText?]

    // A job has a token exactly while it runs (`running_has_token_node_start`), so checking the token also checks
    // the state.
    static let statement = ParameterizedStatement<Self>(
        "finish_runs",
        """
        WITH input AS (
            SELECT unnest(\(\.numbers)) AS number, unnest(\(\.tokens)) AS token,
                unnest(\(\.startedAts)) AS started_at, unnest(\(\.states)) AS state,
                unnest(\(\.causes)) AS cause, unnest(\(\.reasons)) AS reason,
                unnest(\(\.messages)) AS message,
                unnest(\(\.results)) AS result, unnest(\(\.resultTypes)) AS result_type
        ), gone AS (
            DELETE FROM live USING input
            WHERE \(.isRun("input"))
            RETURNING live.number, live.lane, live.token, live.sequence + 1 AS sequence, live.attempt,
                live.max_attempts, live.node, live.started_at, input.state, input.cause, input.reason,
                input.message, input.result, input.result_type
        ), added AS (
            INSERT INTO finished (
                number, state, sequence, attempt, max_attempts, node, started_at, finished_at, cause, reason,
                message, result, result_type)
            SELECT number, state::final_state, sequence, attempt, max_attempts, node, started_at, now(),
                cause, reason, message, result, result_type
            FROM gone
        ), \(.announcing("gone", node: \.node))
        SELECT number, token, started_at, sequence, now() AS at FROM gone
        """)
}

/// Ends runs and puts their jobs back, for another attempt.
struct ReturnRuns: Command {
    let node: Int32
    let numbers: [Int64]
    let tokens: [Int64]
    let startedAts: [Timestamp]
    let types: [String]
    let causes: [String?]
    let reasons: [String]
    let messages: [String]
    /// Null: the job keeps its due time.
    let delaysMilliseconds: [Int64?]
    /// Whether the attempt of each run counts. Otherwise one more is allowed.
    let counts: [Bool]

    static let statement = ParameterizedStatement<Self>(
        "return_runs",
        """
        WITH input AS (
            SELECT * FROM unnest(
                \(\.numbers), \(\.tokens), \(\.startedAts), \(\.types), \(\.causes), \(\.reasons),
                \(\.messages), \(\.delaysMilliseconds), \(\.counts))
            AS t (number, token, started_at, type, cause, reason, message, delay_ms, counts)
        ), old AS MATERIALIZED (
            SELECT live.number, live.token, live.started_at, live.node, live.attempt, input.type,
                input.cause, input.reason, input.message, input.delay_ms, input.counts, live.cancel_requested_at,
                live.cancel_reason
            FROM live
            JOIN input ON \(.isRun("input"))
            ORDER BY input.number FOR UPDATE OF live
        ), back AS (
            UPDATE live SET
                state = (CASE WHEN old.delay_ms > 0 THEN 'scheduled' ELSE 'ready' END)::live_state,
                due_at = coalesce(now() + old.delay_ms * interval '1 millisecond', live.due_at), sequence = live.sequence + 1,
                max_attempts = CASE WHEN old.counts THEN live.max_attempts ELSE live.max_attempts + 1 END,
                token = NULL, node = NULL, started_at = NULL
            FROM old
            WHERE \(.isRun("old")) AND old.cancel_requested_at IS NULL
            RETURNING live.number, live.lane, live.sequence, live.due_at
        ), kept AS (
            INSERT INTO history (
                number, sequence, type, attempt, node, started_at, at, due_at, cause, reason, message)
            SELECT number, back.sequence, old.type::event_type, old.attempt, old.node, old.started_at, now(),
                back.due_at, old.cause, old.reason, old.message
            FROM back JOIN old USING (number)
        ), \(.announcing("back", node: \.node))
        SELECT old.number, old.token, old.started_at, back.sequence, now() AS at, back.due_at, old.cancel_reason
        FROM old LEFT JOIN back USING (number)
        """)
}

extension JobStore {
    /// Ends a run, and calls `completion` once it is committed. `completion` is called on a thread of the store
    /// and must not block. Many calls share a commit.
    package func finish(
        _ finished: FinishedRun, completion: @escaping @Sendable (Result<FinishResult, StoreError>) -> Void
    ) {
        finishedRuns.submit(finished, startWriter: startFinishing, completion: completion)
    }

    private func startFinishing() {
        startWriter(
            finishedRuns,
            { [self] runs, connection throws(PostgresError) in try commitFinishedRuns(runs, connection) },
            afterwards: { [self] in starter?.didFinishRuns() })
    }

    func commitFinishedRuns(
        _ runs: [FinishedRun], _ connection: Connection
    ) throws(PostgresError) -> [Result<FinishResult, StoreError>] {
        let node = nodeNumber
        // Two nodes may want to end a run: the one that ran it, and the one that recovers it. The first one ends it.
        var fences: Set<RunFence> = []
        let firsts = runs.indices.filter { fences.insert(runs[$0].fence).inserted }
        let finals = firsts.filter { runs[$0].isFinal }
        let returns = firsts.filter { !runs[$0].isFinal }
        var queries: [Query] = []
        if !finals.isEmpty { queries.append(Query(FinishRuns(finals.map { runs[$0] }, node: node))) }
        if !returns.isEmpty { queries.append(Query(ReturnRuns(returns.map { runs[$0] }, node: node))) }
        var results = try connection.execute(queries).makeIterator()
        var written: [RunFence: WrittenEnd] = [:]
        if !finals.isEmpty, let result = results.next() {
            let fence = try FenceReader(result)
            let sequence: Column<Int64> = try result.column("sequence")
            let at: Column<Timestamp> = try result.column("at")
            for row in result {
                written[try fence.fence(row)] = WrittenEnd(sequence: try row[sequence], at: try row[at])
            }
        }
        if !returns.isEmpty, let result = results.next() {
            let fence = try FenceReader(result)
            let sequence: Column<Int64?> = try result.column("sequence")
            let at: Column<Timestamp> = try result.column("at")
            let dueAt: Column<Timestamp?> = try result.column("due_at")
            let cancelNote: Column<String?> = try result.column("cancel_reason")
            for row in result {
                written[try fence.fence(row)] = WrittenEnd(
                    sequence: try row[sequence], at: try row[at], dueAt: try row[dueAt],
                    cancelNote: try row[cancelNote])
            }
        }
        var changes: [LocalChange] = []
        let outcomes = runs.map { finished -> Result<FinishResult, StoreError> in
            guard let end = written.removeValue(forKey: finished.fence) else { return .success(.stale) }
            guard let sequence = end.sequence else {
                return .success(.cancelRequested(note: end.cancelNote ?? ""))
            }
            changes.append(
                .event(finished.event(sequence: sequence, at: end.at, dueAt: end.dueAt), finished.key))
            return .success(.written)
        }
        publish(changes)
        return outcomes
    }

    private struct WrittenEnd: Sendable {
        var sequence: Int64?
        var at: Timestamp
        var dueAt: Timestamp?
        var cancelNote: String?
    }
}

extension FinishRuns {
    /// - Parameter runs: runs whose verdicts are all final.
    init(_ runs: [FinishedRun], node: Int32) {
        var states: [String] = []
        var errors: [JobError?] = []
        var results: [JobResult?] = []
        for case .final(let type, let error, let result) in runs.map(\.verdict) {
            states.append(type.to.rawValue)
            errors.append(error)
            results.append(result)
        }
        self.init(
            node: node, numbers: runs.map(\.key.number), tokens: runs.map(\.run.token),
            startedAts: runs.map(\.run.startedAt), states: states,
            causes: errors.map { $0?.keptCause }, reasons: errors.map { $0?.word },
            messages: errors.map { $0?.message },
            results: results.map { $0?.data }, resultTypes: results.map { $0?.contentType })
    }
}

extension ReturnRuns {
    /// - Parameter runs: runs of which no verdict is final.
    init(_ runs: [FinishedRun], node: Int32) {
        var types: [String] = []
        var errors: [JobError] = []
        var delays: [Int64?] = []
        var counts: [Bool] = []
        for case .again(let type, let error, let delay, let countsAttempt) in runs.map(\.verdict) {
            types.append(type.rawValue)
            errors.append(error)
            delays.append(delay?.milliseconds)
            counts.append(countsAttempt)
        }
        self.init(
            node: node, numbers: runs.map(\.key.number), tokens: runs.map(\.run.token),
            startedAts: runs.map(\.run.startedAt), types: types,
            causes: errors.map(\.keptCause), reasons: errors.map(\.word),
            messages: errors.map(\.message), delaysMilliseconds: delays, counts: counts)
    }
}

extension FinishedRun {
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
