import FoundationEssentials
package import JobModel
import Postgres
package import Support

extension SQL {
    /// The state of a job that is in `live l` or in `finished f`, as `JobState` names it. A state that this
    /// version does not know is returned unchanged, so that the error of reading it can name it.
    static var state: SQL {
        """
        coalesce(f.state::text, CASE WHEN l.state IN ('scheduled', 'ready') THEN 'pending' ELSE l.state::text END)
        """
    }

    /// The columns of a job, without its history and its result, from `recordTables`, for `RecordReader`.
    static var recordColumns: SQL {
        """
        j.number, j.id, k.name AS kind, j.user_id, q.name AS queue, j.created_at,
        \(.specColumns(of: "j", for: .records)),
        \(state) AS state,
        coalesce(f.sequence, l.sequence) AS sequence, coalesce(f.attempt, l.attempt) AS attempt,
        coalesce(f.max_attempts, l.max_attempts) AS last_attempt, coalesce(l.due_at, j.due_at) AS due_at,
        coalesce(f.started_at, l.started_at, h.started_at) AS started_at, f.finished_at,
        l.cancel_requested_at IS NOT NULL AS cancel_requested,
        CASE WHEN f.number IS NOT NULL THEN f.cause ELSE h.cause END AS error_cause,
        CASE WHEN f.number IS NOT NULL THEN f.reason ELSE h.reason END AS error_reason,
        CASE WHEN f.number IS NOT NULL THEN f.message ELSE h.message END AS error_message,
        p.stage, p.fraction, p.message, p.step, p.steps, p.done, p.total, p.updated_at
        """
    }

    /// The tables that `recordColumns` needs, to be joined to `job j`.
    static var recordTables: SQL {
        """
        JOIN lane ON lane.id = j.lane JOIN queue q ON q.id = lane.queue JOIN kind k ON k.id = j.kind
        LEFT JOIN live l ON \(.lookUp("l.number", "j.number"))
        LEFT JOIN finished f ON \(.lookUp("f.number", "j.number"))
        LEFT JOIN progress p ON \(.lookUp("p.number", "j.number")) AND p.attempt = coalesce(f.attempt, l.attempt)
        LEFT JOIN LATERAL (
            SELECT cause, reason, message, started_at FROM history
            WHERE history.number = j.number AND type <> 'cancel_requested'
            ORDER BY sequence DESC LIMIT 1) h ON f.number IS NULL
        """
    }

    /// The condition that a job is in `live` or in `finished`. A job that is being removed, or moved, may be in
    /// neither.
    static var isWhole: SQL { "(l.number IS NOT NULL OR f.number IS NOT NULL)" }
}

/// Reads whole jobs. Results of more than `resultBytesMax` are left out.
struct FindJobs: Command {
    let ids: [JobID]
    let resultBytesMax: Int32
    let users: UserScope

    static let statement = ParameterizedStatement<Self>(
        "find_jobs",
        """
        SELECT \(.recordColumns),
            CASE WHEN octet_length(f.result) <= \(\.resultBytesMax) THEN f.result END AS result, f.result_type
        FROM unnest(\(\.ids)) AS wanted (id) JOIN job j ON \(.lookUp("j.id", "wanted.id")) \(.recordTables)
        WHERE \(.isWhole) AND \(.isAllowed("j.user_id", \.users))
        """)
}

/// Finds how far jobs are.
struct FindSequences: Command {
    let numbers: [Int64]

    static let statement = ParameterizedStatement<Self>(
        "find_sequences",
        """
        SELECT j.number, j.id, coalesce(f.sequence, l.sequence) AS sequence, f.number IS NOT NULL AS is_final
        FROM unnest(\(\.numbers)) AS wanted (number) JOIN job j ON \(.lookUp("j.number", "wanted.number"))
        LEFT JOIN live l ON \(.lookUp("l.number", "j.number"))
        LEFT JOIN finished f ON \(.lookUp("f.number", "j.number"))
        WHERE \(.isWhole)
        """)
}

/// Finds the numbers and the users of jobs.
struct FindNumbers: Command {
    let ids: [JobID]
    let users: UserScope

    static let statement = ParameterizedStatement<Self>(
        "find_numbers",
        """
        SELECT id, number, user_id FROM job WHERE id = ANY (\(\.ids)) AND \(.isAllowed("user_id", \.users))
        """)
}

struct FindPayload: Command {
    let id: JobID

    static let statement = ParameterizedStatement<Self>(
        "find_payload", "SELECT payload FROM job WHERE id = \(\.id)")
}

/// Reads each job's history after a sequence, one row per end of an attempt or other change, and its present state.
struct FindEvents: Command {
    let numbers: [Int64]
    let after: [Int64]
    var historyMax: Int64
    var resultBytesMax = Int32(JobLimits.eventResultBytesMax)

    /// - Parameter historyMax: the most rows of each history that are read.
    init(after sequences: [Int64: Int64], historyMax: Int = JobLimits.historyRowsMax) {
        numbers = Array(sequences.keys)
        after = Array(sequences.values)
        self.historyMax = Int64(historyMax)
    }

    /// Reads the beginning of a history that is too long: a caller that follows a job reads on from there.
    static let statement = ParameterizedStatement<Self>("find_events", events(history: "ASC"))

    /// Reads the last ends of attempts of a history, and the present state.
    static let last = ParameterizedStatement<Self>(
        "find_last_events", events(history: "DESC", "AND started_at IS NOT NULL"))

    /// - Parameter condition: further conditions on the rows of the history.
    static func events(history order: SQL<Self>, _ condition: SQL<Self> = "") -> SQL<Self> {
        """
        SELECT j.number, j.id, k.name AS kind, j.user_id, q.name AS queue, e.sequence, e.type, e.attempt,
            node.name AS node, e.started_at, e.at, e.due_at, e.cause, e.reason, e.message, e.result, e.result_type, j.lane
        FROM unnest(\(\.numbers), \(\.after)) AS wanted (number, after)
        JOIN job j ON \(.lookUp("j.number", "wanted.number"))
        JOIN lane ON lane.id = j.lane JOIN queue q ON q.id = lane.queue JOIN kind k ON k.id = j.kind
        CROSS JOIN LATERAL (
            SELECT 1::bigint AS sequence, 'enqueued' AS type, 0 AS attempt, NULL::int AS node,
                NULL::timestamptz AS started_at, j.created_at AS at, j.due_at, NULL::text AS cause,
                NULL::text AS reason, NULL::text AS message, NULL::bytea AS result, NULL::text AS result_type
            WHERE wanted.after < 1
            UNION ALL
            (SELECT sequence, type::text, attempt, node, started_at, at, due_at, cause, reason, message, NULL,
                NULL
            FROM history WHERE history.number = wanted.number AND sequence > wanted.after \(condition)
            ORDER BY sequence \(order) LIMIT \(\.historyMax))
            UNION ALL
            SELECT start.sequence, 'started', attempt, node, NULL, started_at, NULL, NULL, NULL, NULL, NULL, NULL
            -- Equivalent to state = 'running', from which the planner might choose to walk the index of all running jobs.
            FROM live CROSS JOIN LATERAL (
                -- After a request to stop, the last event is that request, which is in `history`, and the start is before it.
                SELECT live.sequence - (EXISTS (
                    SELECT FROM history h WHERE h.number = live.number AND h.sequence = live.sequence))::int
                    AS sequence) start
            WHERE live.number = wanted.number AND started_at IS NOT NULL AND start.sequence > wanted.after
            UNION ALL
            SELECT sequence, state::text, attempt, node, started_at, finished_at, NULL, cause, reason, message,
                CASE WHEN octet_length(result) <= \(\.resultBytesMax) THEN result END, result_type
            FROM finished WHERE finished.number = wanted.number AND sequence > wanted.after
        ) e
        LEFT JOIN node ON node.id = e.node
        ORDER BY j.number, e.sequence
        """
    }
}

/// The lines of a job's log that are wanted.
package struct WantedLog: Sendable {
    package var number: Int64
    /// The number may be that of another job by now, whose log is not read.
    package var job: JobID
    /// The last line that is not wanted.
    package var after: Int64

    package init(number: Int64, job: JobID, after: Int64) {
        self.number = number
        self.job = job
        self.after = after
    }
}

/// Reads the last lines of each job's log after a line.
struct FindLogs: Command {
    let numbers: [Int64]
    let ids: [JobID]
    let after: [Int64]
    let linesMax = Int64(JobLimits.logLinesKept)

    init(_ wanted: [WantedLog]) {
        numbers = wanted.map(\.number)
        ids = wanted.map(\.job)
        after = wanted.map(\.after)
    }

    static let statement = ParameterizedStatement<Self>(
        "find_logs",
        """
        SELECT wanted.number, l.line, l.at, l.attempt, l.level, l.message
        FROM unnest(\(\.numbers), \(\.ids), \(\.after)) AS wanted (number, id, after)
        JOIN job ON \(.lookUp("job.number", "wanted.number")) AND job.id = wanted.id
        CROSS JOIN LATERAL (
            SELECT line, at, attempt, level, message FROM log_line
            WHERE log_line.number = wanted.number AND line > wanted.after
            ORDER BY log_line.number DESC, line DESC LIMIT \(\.linesMax)) l
        ORDER BY wanted.number, l.line
        """)
}

struct FindProgress: Command {
    let numbers: [Int64]

    static let statement = ParameterizedStatement<Self>(
        "find_progress",
        """
        SELECT p.number, p.attempt, p.stage, p.fraction, p.message, p.step, p.steps, p.done, p.total, p.updated_at,
            job.id, job.user_id, queue.name AS queue
        FROM progress p JOIN job ON \(.lookUp("job.number", "p.number"))
        JOIN lane ON lane.id = job.lane JOIN queue ON queue.id = lane.queue
        WHERE p.number = ANY (\(\.numbers))
        """)
}

/// A job with an event that a newer version has written.
package struct UnknownEvent: Sendable {
    /// The event's type as a text, for example `event type "unblocked"`.
    package var value: ExactText
    package var job: JobID
    package var number: Int64
    package var userID: ExactText
    package var queue: String
}

extension JobStore {
    // Jobs of users for whom the caller may not act are treated as if they did not exist.

    /// The job with its result, without its history; nil if there is no such job.
    package func job(_ id: JobID, for users: UserScope) async throws(StoreError) -> JobRecord? {
        try await jobs([id], for: users, resultBytesMax: JobLimits.resultBytesMax).first
    }

    /// The jobs that exist, without their history and in no order. Results of more than `resultBytesMax` are left
    /// out.
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
        try RecordReader.records(
            try connection.execute(
                FindJobs(ids: ids, resultBytesMax: Int32(resultBytesMax), users: users)))
    }

    /// Where the database has the jobs that exist: the number and the user of each.
    package func locators(
        of ids: [JobID], for users: UserScope
    ) async throws(StoreError) -> [JobID: (number: Int64, userID: ExactText)] {
        try await read("locators") { connection throws(PostgresError) in
            let result = try connection.execute(FindNumbers(ids: ids, users: users))
            let id: Column<JobID> = try result.column("id")
            let number: Column<Int64> = try result.column("number")
            let userID: Column<ExactText> = try result.column("user_id")
            var found: [JobID: (number: Int64, userID: ExactText)] = [:]
            for row in result { found[try row[id]] = (try row[number], try row[userID]) }
            return found
        }
    }

    /// The sequence of each job's last event, and whether the job is final, by the numbers of those that exist.
    package func sequences(
        of numbers: [Int64]
    ) async throws(StoreError) -> [Int64: (id: JobID, sequence: Int64, isFinal: Bool)] {
        try await read("sequences") { connection throws(PostgresError) in
            let result = try connection.execute(FindSequences(numbers: numbers))
            let number: Column<Int64> = try result.column("number")
            let id: Column<JobID> = try result.column("id")
            let sequence: Column<Int64> = try result.column("sequence")
            let isFinal: Column<Bool> = try result.column("is_final")
            var found: [Int64: (id: JobID, sequence: Int64, isFinal: Bool)] = [:]
            for row in result {
                found[try row[number]] = (try row[id], try row[sequence], try row[isFinal])
            }
            return found
        }
    }

    /// The job with its last attempts, its log and, if wanted, its payload. The messages of the attempts are cut.
    package func jobWithHistory(
        _ id: JobID, for users: UserScope, payload: Bool
    ) async throws(StoreError) -> JobRecord? {
        guard let found = try await job(id, for: users) else { return nil }
        return try await read("history") { connection throws(PostgresError) in
            let results = try connection.transaction(
                [
                    Query(
                        FindEvents.last,
                        FindEvents(after: [found.number: 0], historyMax: JobLimits.attemptsReturnedMax)),
                    Query(FindLogs([WantedLog(number: found.number, job: id, after: 0)])),
                ] + (payload ? [Query(FindPayload(id: id))] : []))
            var job = found
            var changes: [JobChange] = []
            let changeReader = try ChangeReader(results[0])
            for row in results[0] {
                let change = try changeReader.change(row)
                // The number may have become that of another job since the job was read.
                if change.key.id == id { changes.append(change) }
            }
            job.attempts = try JobChange.attempts(changes).suffix(JobLimits.attemptsReturnedMax).map {
                var attempt = $0
                if let message = attempt.error?.message {
                    attempt.error?.message = message.cut(toBytes: JobLimits.attemptMessageBytesMax)
                }
                return attempt
            }
            let logReader = try LogReader(results[1])
            for row in results[1] { job.log.append(try logReader.line(row)) }
            if payload, let row = results[2].first {
                job.spec.payload = try row[results[2].column("payload")]
            }
            return job
        }
    }

    /// Every event of each job after a sequence, in order. If a job's history is too long, it returns the beginning of the
    /// history and the present state, with a gap between them.
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
            let result = try connection.execute(FindEvents(after: sequences))
            let reader = try ChangeReader(result)
            var changes: [Int64: [JobChange]] = [:]
            var unknown: [Int64: UnknownEvent] = [:]
            for row in result {
                do throws(PostgresError) {
                    let change = try reader.change(row)
                    changes[change.key.number, default: []].append(change)
                } catch {
                    guard !orFail, case .unknownValue(let value) = error.code else { throw error }
                    let number = try row[reader.number]
                    unknown[number] = UnknownEvent(
                        value: ExactText(value), job: try row[reader.id], number: number,
                        userID: try row[reader.userID], queue: try row[reader.queue])
                }
            }
            var events: [Int64: [JobEvent]] = [:]
            for (number, changes) in changes where unknown[number] == nil {
                events[number] = JobChange.events(changes, after: sequences[number] ?? 0)
            }
            return (events, Array(unknown.values))
        }
    }

    /// The latest progress of a job, and whose it is.
    package struct LatestProgress: Sendable {
        package var job: JobID
        package var lane: LaneName
        package var attempt: Int
        package var progress: Progress
    }

    /// The latest progress of each job that has any.
    package func progress(of numbers: [Int64]) async throws(StoreError) -> [Int64: LatestProgress] {
        try await read("progress") { connection throws(PostgresError) in
            var found: [Int64: LatestProgress] = [:]
            let result = try connection.execute(FindProgress(numbers: numbers))
            let number: Column<Int64> = try result.column("number")
            let attempt: Column<Int32> = try result.column("attempt")
            let progress = try ProgressReader(result)
            let id: Column<JobID> = try result.column("id")
            let userID: Column<ExactText> = try result.column("user_id")
            let queue: Column<String> = try result.column("queue")
            for row in result {
                found[try row[number]] = LatestProgress(
                    job: try row[id], lane: LaneName(userID: try row[userID], queue: try row[queue]),
                    attempt: Int(try row[attempt]), progress: try progress.progress(row))
            }
            return found
        }
    }

    /// The last lines of each job's log after a line, oldest first. Jobs without any are left out.
    package func logs(
        of wanted: [WantedLog]
    ) async throws(StoreError) -> [Int64: [LogLine]] {
        try await knownLogs(of: wanted, orFail: true).logs
    }

    /// Reads the lines as above, but leaves out those whose level this version does not know, and names these levels.
    package func knownLogs(
        of wanted: [WantedLog]
    ) async throws(StoreError) -> (logs: [Int64: [LogLine]], unknown: Set<ExactText>) {
        try await knownLogs(of: wanted, orFail: false)
    }

    private func knownLogs(
        of wanted: [WantedLog], orFail: Bool
    ) async throws(StoreError) -> (logs: [Int64: [LogLine]], unknown: Set<ExactText>) {
        guard !wanted.isEmpty else { return ([:], []) }
        return try await read("logs") { connection throws(PostgresError) in
            let result = try connection.execute(FindLogs(wanted))
            let reader = try LogReader(result)
            var logs: [Int64: [LogLine]] = [:]
            var unknown: Set<ExactText> = []
            for row in result {
                do throws(PostgresError) {
                    logs[try row[reader.job], default: []].append(try reader.line(row))
                } catch {
                    guard !orFail, case .unknownValue(let value) = error.code else { throw error }
                    unknown.insert(ExactText(value))
                }
            }
            return (logs, unknown)
        }
    }
}
