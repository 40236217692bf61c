import FoundationEssentials
package import JobModel
import Postgres
package import Support

extension Statement {
    /// The state of a job that is in `live l` or in `finished f`, as `JobState` names it. One that this version does not
    /// know stays as it is, so that reading it is an error that names it.
    static let state = """
        coalesce(f.state::text, CASE WHEN l.state IN ('scheduled', 'ready') THEN 'pending' ELSE l.state::text END)
        """

    /// Everything about a job but its history; the columns that `JobRecord.init(row:)` reads.
    static let recordColumns = """
        j.number, j.id, k.name, j.user_id, q.name, j.priority, j.max_attempts, j.created_at,
        j.timeout_ms, j.soft_timeout_ms, j.retry_initial_ms, j.retry_factor, j.retry_max_ms, j.retry_jitter,
        j.content_type, j.idempotency_key, j.labels::text,
        \(state),
        coalesce(f.sequence, l.sequence), coalesce(f.attempt, l.attempt),
        coalesce(f.max_attempts, l.max_attempts), coalesce(l.due_at, j.due_at),
        coalesce(f.started_at, l.started_at, h.started_at), f.finished_at,
        l.cancel_requested_at IS NOT NULL,
        CASE WHEN f.number IS NOT NULL THEN f.reason ELSE h.reason END,
        CASE WHEN f.number IS NOT NULL THEN f.message ELSE h.message END,
        p.stage, p.fraction, p.message, p.step, p.steps, p.updated_at, j.lane
        """
    static let recordTables = """
        JOIN lane ON lane.id = j.lane JOIN queue q ON q.id = lane.queue JOIN kind k ON k.id = j.kind
        LEFT JOIN live l ON \(lookUp("l.number", "j.number"))
        LEFT JOIN finished f ON \(lookUp("f.number", "j.number"))
        LEFT JOIN progress p ON \(lookUp("p.number", "j.number")) AND p.attempt = coalesce(f.attempt, l.attempt)
        LEFT JOIN LATERAL (
            SELECT reason, message, started_at FROM history WHERE history.number = j.number
            ORDER BY sequence DESC LIMIT 1) h ON f.number IS NULL
        """
    /// A job that is being removed, or just being moved, is in neither table.
    static let isWhole = "(l.number IS NOT NULL OR f.number IS NOT NULL)"

    static let findJobs = Statement(
        "find_jobs",
        """
        SELECT \(recordColumns), CASE WHEN octet_length(f.result) <= $2 THEN f.result END, f.result_type
        FROM unnest($1::uuid[]) AS wanted (id) JOIN job j ON \(lookUp("j.id", "wanted.id")) \(recordTables)
        WHERE \(isWhole) AND \(isAllowed("j.user_id", "$3"))
        """)

    static let findPlaces = Statement(
        "find_places",
        """
        SELECT id, number, user_id FROM job WHERE id = ANY ($1::uuid[]) AND \(isAllowed("user_id", "$2"))
        """)

    static let findPayload = Statement("find_payload", "SELECT payload FROM job WHERE number = $1")

    /// Each job's history after a sequence, one row per end of an attempt or other change, and the present. Of a
    /// history that is too long its beginning: whoever follows a job reads on from there.
    static let findEvents = Statement("find_events", events(history: "ASC"))

    /// Of a history that is too long its end.
    static let findLastEvents = Statement("find_last_events", events(history: "DESC"))

    private static func events(history order: String) -> String {
        """
        SELECT j.number, j.id, k.name, j.user_id, q.name, e.sequence, e.type, e.attempt, node.name,
            e.started_at, e.at, e.due_at, e.reason, e.message, e.result, e.result_type, j.lane
        FROM unnest($1::bigint[], $2::bigint[]) AS wanted (number, after)
        JOIN job j ON \(lookUp("j.number", "wanted.number"))
        JOIN lane ON lane.id = j.lane JOIN queue q ON q.id = lane.queue JOIN kind k ON k.id = j.kind
        CROSS JOIN LATERAL (
            SELECT 1::bigint AS sequence, 'enqueued' AS type, 0 AS attempt, NULL::int AS node,
                NULL::timestamptz AS started_at, j.created_at AS at, j.due_at, NULL::text AS reason,
                NULL::text AS message, NULL::bytea AS result, NULL::text AS result_type
            WHERE wanted.after < 1
            UNION ALL
            (SELECT sequence, type::text, attempt, node, started_at, at, due_at, reason, message, NULL, NULL
            FROM history WHERE history.number = wanted.number AND sequence > wanted.after
            ORDER BY sequence \(order) LIMIT $3)
            UNION ALL
            SELECT sequence, 'started', attempt, node, NULL, started_at, NULL, NULL, NULL, NULL, NULL
            -- As good as state = 'running', which would let the planner walk all that runs while that is little.
            FROM live
            WHERE live.number = wanted.number AND started_at IS NOT NULL AND sequence > wanted.after
            UNION ALL
            SELECT sequence, state::text, attempt, node, started_at, finished_at, NULL, reason, message,
                CASE WHEN octet_length(result) <= $4 THEN result END, result_type
            FROM finished WHERE finished.number = wanted.number AND sequence > wanted.after
        ) e
        LEFT JOIN node ON node.id = e.node
        ORDER BY j.number, e.sequence
        """
    }

    /// The last lines of each job's log after a line.
    static let findLogs = Statement(
        "find_logs",
        """
        SELECT l.line, l.at, l.attempt, l.level, l.message, wanted.number
        FROM unnest($1::bigint[], $2::bigint[]) AS wanted (number, after) CROSS JOIN LATERAL (
            SELECT line, at, attempt, level, message FROM log_line
            WHERE log_line.number = wanted.number AND line > wanted.after
            ORDER BY log_line.number DESC, line DESC LIMIT $3) l
        ORDER BY wanted.number, l.line
        """)

    static let findProgress = Statement(
        "find_progress",
        """
        SELECT number, attempt, stage, fraction, message, step, steps, updated_at, job.id
        FROM progress JOIN job USING (number) WHERE number = ANY ($1::bigint[])
        """)
}

/// A job with an event that a newer version has written.
package struct UnknownEvent: Sendable {
    /// How the event's type reads: `event type "unblocked"`.
    package var value: ExactText
    package var job: JobID
    package var number: Int64
    package var userID: ExactText
    package var queue: String
}

extension JobStore {
    // A job of a user for whom the caller may not act is none that there is.

    /// The job with its result, without its history; nil if there is none.
    package func job(_ id: JobID, for users: UserScope) async throws(StoreError) -> JobRecord? {
        try await jobs([id], for: users, resultBytesMax: JobLimits.resultBytesMax).first
    }

    /// The jobs that there are, without their history, in no order. A larger result is left out.
    package func jobs(
        _ ids: [JobID], for users: UserScope, resultBytesMax: Int
    ) async throws(StoreError) -> [JobRecord] {
        try await read("jobs") { connection throws(PostgresError) in
            try Self.jobs(ids, for: users, resultBytesMax: resultBytesMax, connection)
        }
    }

    /// Reads the jobs on a connection that the caller already has.
    static func jobs(
        _ ids: [JobID], for users: UserScope, resultBytesMax: Int, _ connection: Connection
    ) throws(PostgresError) -> [JobRecord] {
        var jobs: [JobRecord] = []
        let result = try connection.execute(
            .findJobs,
            Parameters {
                $0.append(ids.map(\.uuid))
                $0.append(Int32(resultBytesMax))
                $0.append(users)
            })
        for row in result { jobs.append(try JobRecord(row)) }
        return jobs
    }

    /// How the database names the jobs that there are, and whose they are.
    package func places(
        of ids: [JobID], for users: UserScope
    ) async throws(StoreError) -> [JobID: (number: Int64, userID: ExactText)] {
        try await read("places") { connection throws(PostgresError) in
            var places: [JobID: (number: Int64, userID: ExactText)] = [:]
            let result = try connection.execute(
                .findPlaces,
                Parameters {
                    $0.append(ids.map(\.uuid))
                    $0.append(users)
                })
            for row in result {
                places[JobID(try row.uuid(0))] = (try row.int64(1), ExactText(try row.string(2)))
            }
            return places
        }
    }

    /// The job with its attempts, its log and, if wanted, its payload.
    package func jobWithHistory(
        _ id: JobID, for users: UserScope, payload: Bool
    ) async throws(StoreError) -> JobRecord? {
        guard let found = try await job(id, for: users) else { return nil }
        return try await read("history") { connection throws(PostgresError) in
            let results = try connection.transaction(
                [
                    Self.eventsQuery(.findLastEvents, [found.number: 0]),
                    Self.logsQuery([(number: found.number, after: 0)]),
                ] + (payload ? [Query(.findPayload, Parameters { $0.append(found.number) })] : []))
            var job = found
            var changes: [JobChange] = []
            for row in results[0] { changes.append(try JobChange(row)) }
            job.attempts = try JobChange.attempts(changes)
            for row in results[1] { job.log.append(try LogLine(row)) }
            if payload { job.spec.payload = try results[2].first?.bytes(0) ?? [] }
            return job
        }
    }

    /// Every event of each job after a sequence, in order. Of a job with a very long history the first of them, and
    /// the present: there is a gap before that.
    package func events(after sequences: [Int64: Int64]) async throws(StoreError) -> [Int64: [JobEvent]] {
        try await knownEvents(after: sequences, orFail: true).events
    }

    /// Reads the events as above, but leaves out each job that has an event whose type this version does not know.
    package func knownEvents(
        after sequences: [Int64: Int64]
    ) async throws(StoreError) -> (events: [Int64: [JobEvent]], unknown: [UnknownEvent]) {
        try await knownEvents(after: sequences, orFail: false)
    }

    private func knownEvents(
        after sequences: [Int64: Int64], orFail: Bool
    ) async throws(StoreError) -> (events: [Int64: [JobEvent]], unknown: [UnknownEvent]) {
        guard !sequences.isEmpty else { return ([:], []) }
        return try await read("events") { connection throws(PostgresError) in
            let query = Self.eventsQuery(.findEvents, sequences)
            var changes: [Int64: [JobChange]] = [:]
            var unknown: [Int64: UnknownEvent] = [:]
            for row in try connection.execute(query.statement, query.parameters) {
                do throws(PostgresError) {
                    let change = try JobChange(row)
                    changes[change.key.number, default: []].append(change)
                } catch {
                    guard !orFail, case .unknownValue(let value) = error.code else { throw error }
                    let number = try row.int64(0)
                    unknown[number] = UnknownEvent(
                        value: ExactText(value), job: JobID(try row.uuid(1)), number: number,
                        userID: ExactText(try row.string(3)), queue: try row.string(4))
                }
            }
            var events: [Int64: [JobEvent]] = [:]
            for (number, changes) in changes where unknown[number] == nil {
                events[number] = JobChange.events(changes, after: sequences[number] ?? 0)
            }
            return (events, Array(unknown.values))
        }
    }

    private static func eventsQuery(_ statement: Statement, _ sequences: [Int64: Int64]) -> Query {
        Query(
            statement,
            Parameters {
                $0.append(Array(sequences.keys))
                $0.append(Array(sequences.values))
                $0.append(Int64(JobLimits.attemptsReturnedMax))
                $0.append(Int32(JobLimits.eventResultBytesMax))
            })
    }

    /// The latest progress of each job that has any.
    package func progress(
        of numbers: [Int64]
    ) async throws(StoreError) -> [Int64: (job: JobID, attempt: Int, progress: Progress)] {
        try await read("progress") { connection throws(PostgresError) in
            var found: [Int64: (job: JobID, attempt: Int, progress: Progress)] = [:]
            for row in try connection.execute(.findProgress, Parameters { $0.append(numbers) }) {
                found[try row.int64(0)] = (
                    JobID(try row.uuid(8)), Int(try row.int32(1)),
                    Progress(
                        stage: try row.string(2), fraction: try row.double(3), message: try row.string(4),
                        step: Int(try row.int32(5)), steps: Int(try row.int32(6)),
                        updatedAt: Timestamp(microseconds: try row.timestamp(7)))
                )
            }
            return found
        }
    }

    /// The last lines of each job's log after a line, oldest first. Jobs without any are left out.
    package func logs(
        of wanted: [(number: Int64, after: Int64)]
    ) async throws(StoreError) -> [Int64: [LogLine]] {
        try await knownLogs(of: wanted, orFail: true).logs
    }

    /// Reads the lines as above, but leaves out those whose level this version does not know, and names these levels.
    package func knownLogs(
        of wanted: [(number: Int64, after: Int64)]
    ) async throws(StoreError) -> (logs: [Int64: [LogLine]], unknown: Set<ExactText>) {
        try await knownLogs(of: wanted, orFail: false)
    }

    private func knownLogs(
        of wanted: [(number: Int64, after: Int64)], orFail: Bool
    ) async throws(StoreError) -> (logs: [Int64: [LogLine]], unknown: Set<ExactText>) {
        guard !wanted.isEmpty else { return ([:], []) }
        return try await read("logs") { connection throws(PostgresError) in
            let query = Self.logsQuery(wanted)
            var logs: [Int64: [LogLine]] = [:]
            var unknown: Set<ExactText> = []
            for row in try connection.execute(query.statement, query.parameters) {
                do throws(PostgresError) {
                    logs[try row.int64(5), default: []].append(try LogLine(row))
                } catch {
                    guard !orFail, case .unknownValue(let value) = error.code else { throw error }
                    unknown.insert(ExactText(value))
                }
            }
            return (logs, unknown)
        }
    }

    private static func logsQuery(_ wanted: [(number: Int64, after: Int64)]) -> Query {
        Query(
            .findLogs,
            Parameters {
                $0.append(wanted.map(\.number))
                $0.append(wanted.map(\.after))
                $0.append(Int64(JobLimits.logLinesKept))
            })
    }
}
