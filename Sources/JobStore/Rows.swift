import JobModel
import Postgres
import Support

/// Reads jobs: the columns of `SQL.recordColumns`, and `result` and `result_type`.
struct RecordReader {
    private let number: Column<Int64?>
    private let id: Column<JobID>
    private let kind: Column<String>
    private let userID: Column<ExactText>
    private let queue: Column<String>
    private let createdAt: Column<Timestamp>
    private let spec: SpecReader
    private let state: Column<String>
    private let sequence: Column<Int64>
    private let attempt: Column<Int32>
    private let lastAttempt: Column<Int32>
    private let dueAt: Column<Timestamp>
    private let startedAt: Column<Timestamp?>
    private let finishedAt: Column<Timestamp?>
    private let cancelRequested: Column<Bool>
    private let error: ErrorReader
    private let progressStage: Column<String?>
    private let progress: ProgressReader
    private let result: Column<[UInt8]?>
    private let resultType: Column<ExactText?>

    init(_ rows: QueryResult) throws(PostgresError) {
        number = try rows.column("number")
        id = try rows.column("id")
        kind = try rows.column("kind")
        userID = try rows.column("user_id")
        queue = try rows.column("queue")
        createdAt = try rows.column("created_at")
        spec = try SpecReader(rows, for: .records)
        state = try rows.column("state")
        sequence = try rows.column("sequence")
        attempt = try rows.column("attempt")
        lastAttempt = try rows.column("last_attempt")
        dueAt = try rows.column("due_at")
        startedAt = try rows.column("started_at")
        finishedAt = try rows.column("finished_at")
        cancelRequested = try rows.column("cancel_requested")
        error = try ErrorReader(rows, prefix: "error_")
        progressStage = try rows.column("stage")
        progress = try ProgressReader(rows)
        result = try rows.column("result")
        resultType = try rows.column("result_type")
    }

    /// Nil for the row of an outer join that found no job.
    func record(_ row: Row) throws(PostgresError) -> JobRecord? {
        guard let number = try row[number] else { return nil }
        let id = try row[id]
        var spec = JobSpec(kind: try row[kind], userID: try row[userID], queue: try row[queue])
        try self.spec.read(row, into: &spec, of: id)
        var record = JobRecord(
            number: number, id: id, spec: spec,
            state: try row.word(state, "state", of: "job \(id)"), sequence: try row[sequence],
            createdAt: try row[createdAt], dueAt: try row[dueAt])
        record.attempt = Int(try row[attempt])
        record.attemptsUsed = spec.attemptsUsed(
            attempt: record.attempt, lastAttempt: Int(try row[lastAttempt]))
        record.startedAt = try row[startedAt]
        record.finishedAt = try row[finishedAt]
        record.cancelRequested = try row[cancelRequested]
        record.error = try error.error(row, of: "job \(id)")
        if try row[progressStage] != nil { record.progress = try progress.progress(row) }
        if let data = try row[result] {
            record.result = JobResult(data: data, contentType: try row[resultType] ?? "")
        }
        return record
    }

    /// Reads the jobs of all rows.
    static func records(_ rows: QueryResult) throws(PostgresError) -> [JobRecord] {
        let reader = try RecordReader(rows)
        var records: [JobRecord] = []
        records.reserveCapacity(rows.rowCount)
        for row in rows { if let record = try reader.record(row) { records.append(record) } }
        return records
    }
}

/// Reads why a run or a job ended without success: the columns `cause`, `reason` and `message`.
struct ErrorReader {
    private let cause: Column<String?>
    private let reason: Column<String?>
    private let message: Column<String?>

    /// - Parameter prefix: what the names of the columns begin with in the result.
    init(_ rows: QueryResult, prefix: String = "") throws(PostgresError) {
        cause = try rows.column(prefix + "cause")
        reason = try rows.column(prefix + "reason")
        message = try rows.column(prefix + "message")
    }

    /// Nil: there was none.
    ///
    /// - Parameter subject: names the row in errors.
    func error(_ row: Row, of subject: @autoclosure () -> String) throws(PostgresError) -> JobError? {
        guard let reason = try row[reason] else { return nil }
        let known: FailureCause? = try row.word(cause, "cause", of: subject())
        // A node of the release before knows causes as reasons only. Other reasons are the handler's.
        let cause =
            known ?? FailureCause.allCases.first { ExactText($0.word) == ExactText(reason) } ?? .handler
        return JobError(reason: reason, message: try row[message] ?? "", cause: cause)
    }
}

extension JobError {
    /// The value of the column `cause`.
    var keptCause: String? { cause?.rawValue }
}

/// Reads the columns of `progress` that say how far a run is.
struct ProgressReader {
    private let stage: Column<String>
    private let fraction: Column<Double>
    private let message: Column<String>
    private let step: Column<Int32>
    private let steps: Column<Int32>
    private let done: Column<Int64?>
    private let total: Column<Int64?>
    private let updatedAt: Column<Timestamp>

    init(_ result: QueryResult) throws(PostgresError) {
        stage = try result.column("stage")
        fraction = try result.column("fraction")
        message = try result.column("message")
        step = try result.column("step")
        steps = try result.column("steps")
        done = try result.column("done")
        total = try result.column("total")
        updatedAt = try result.column("updated_at")
    }

    func progress(_ row: Row) throws(PostgresError) -> Progress {
        // A fraction that is not a number is not known (`Progress.init`).
        Progress(
            stage: try row[stage], fraction: try row[fraction], message: try row[message],
            done: Self.count(try row[done], cut: try row[step]),
            total: Self.count(try row[total], cut: try row[steps]), updatedAt: try row[updatedAt])
    }

    /// - Parameter cut: the same number in 32 bits. If it is another one, a node of the release before has written it since.
    private static func count(_ whole: Int64?, cut: Int32) -> Int64 {
        guard let whole, Int32(clamping: whole) == cut else { return Int64(cut) }
        return whole
    }
}

/// Reads the columns that name a run: `number`, `token` and `started_at`.
struct FenceReader {
    private let number: Column<Int64>
    private let token: Column<Int64>
    private let startedAt: Column<Timestamp>

    init(_ result: QueryResult) throws(PostgresError) {
        number = try result.column("number")
        token = try result.column("token")
        startedAt = try result.column("started_at")
    }

    func fence(_ row: Row) throws(PostgresError) -> RunFence {
        RunFence(number: try row[number], token: try row[token], startedAt: try row[startedAt])
    }
}

extension SQL {
    /// The columns of running jobs that `RunReader` reads: those of `run`, which has rows of `live`, and of `job` and
    /// `kind`.
    static func runColumns(of run: String) -> SQL {
        """
        \(sql: run).number, \(sql: run).lane, job.id, \(sql: run).token, \(sql: run).attempt,
            \(sql: run).max_attempts AS last_attempt, \(sql: run).sequence, \(sql: run).started_at, kind.name AS kind,
            \(.specColumns(of: "job", for: .recordsAndRuns))
        """
    }
}

/// Reads running jobs: the columns of `SQL.runColumns`, and those that a claim returns for a new run.
struct RunReader {
    let lane: Column<Int64>
    let kind: Column<String>
    private let number: Column<Int64>
    private let id: Column<JobID>
    private let token: Column<Int64>
    private let attempt: Column<Int32>
    private let lastAttempt: Column<Int32>
    private let sequence: Column<Int64>
    private let startedAt: Column<Timestamp>
    private let spec: SpecReader
    private let given: Given?

    private struct Given {
        let payload: Column<[UInt8]>
        let checkpoint: Column<[UInt8]?>
        let lastLogLine: Column<Int64>
    }

    /// - Parameter isClaim: whether the statement returns the payload, the checkpoint and the last line of the log.
    init(_ result: QueryResult, isClaim: Bool) throws(PostgresError) {
        number = try result.column("number")
        lane = try result.column("lane")
        id = try result.column("id")
        token = try result.column("token")
        attempt = try result.column("attempt")
        lastAttempt = try result.column("last_attempt")
        sequence = try result.column("sequence")
        startedAt = try result.column("started_at")
        kind = try result.column("kind")
        spec = try SpecReader(result, for: .recordsAndRuns)
        guard isClaim else {
            given = nil
            return
        }
        given = Given(
            payload: try result.column("payload"), checkpoint: try result.column("checkpoint"),
            lastLogLine: try result.column("last_log_line"))
    }

    func run(_ row: Row, userID: ExactText, queue: String) throws(PostgresError) -> ClaimedRun {
        let id = try row[id]
        var spec = JobSpec(kind: try row[kind], userID: userID, queue: queue)
        try self.spec.read(row, into: &spec, of: id)
        var checkpoint: [UInt8]?
        var lastLogLine: Int64 = 0
        if let given {
            spec.payload = try row[given.payload]
            checkpoint = try row[given.checkpoint]
            lastLogLine = try row[given.lastLogLine]
        }
        return ClaimedRun(
            key: JobKey(number: try row[number], lane: try row[lane], id: id), spec: spec,
            token: try row[token],
            attempt: Int(try row[attempt]), lastAttempt: Int(try row[lastAttempt]),
            sequence: try row[sequence],
            startedAt: try row[startedAt], checkpoint: checkpoint, lastLogLine: lastLogLine)
    }
}

/// Reads the columns of `FindLogs`.
struct LogReader {
    let job: Column<Int64>
    private let line: Column<Int64>
    private let at: Column<Timestamp>
    private let attempt: Column<Int32>
    private let level: Column<String>
    private let message: Column<String>

    init(_ result: QueryResult) throws(PostgresError) {
        job = try result.column("number")
        line = try result.column("line")
        at = try result.column("at")
        attempt = try result.column("attempt")
        level = try result.column("level")
        message = try result.column("message")
    }

    func line(_ row: Row) throws(PostgresError) -> LogLine {
        let number = try row[line]
        let job = try row[job]
        return LogLine(
            number: number, at: try row[at], attempt: Int(try row[attempt]),
            level: try row.word(level, "log level", of: "line \(number) of job number \(job)"),
            message: try row[message])
    }
}

/// Reads the columns of `FindEvents`.
struct ChangeReader {
    let number: Column<Int64>
    let id: Column<JobID>
    let userID: Column<ExactText>
    let queue: Column<String>
    private let kind: Column<String>
    private let sequence: Column<Int64>
    private let type: Column<String>
    private let attempt: Column<Int32>
    private let node: Column<String?>
    private let startedAt: Column<Timestamp?>
    private let at: Column<Timestamp>
    private let dueAt: Column<Timestamp?>
    private let error: ErrorReader
    private let result: Column<[UInt8]?>
    private let resultType: Column<ExactText?>
    private let lane: Column<Int64>

    init(_ rows: QueryResult) throws(PostgresError) {
        number = try rows.column("number")
        id = try rows.column("id")
        kind = try rows.column("kind")
        userID = try rows.column("user_id")
        queue = try rows.column("queue")
        sequence = try rows.column("sequence")
        type = try rows.column("type")
        attempt = try rows.column("attempt")
        node = try rows.column("node")
        startedAt = try rows.column("started_at")
        at = try rows.column("at")
        dueAt = try rows.column("due_at")
        error = try ErrorReader(rows)
        result = try rows.column("result")
        resultType = try rows.column("result_type")
        lane = try rows.column("lane")
    }

    func change(_ row: Row) throws(PostgresError) -> JobChange {
        let id = try row[id]
        let sequence = try row[sequence]
        var result: JobResult?
        if let data = try row[self.result] {
            result = JobResult(data: data, contentType: try row[resultType] ?? "")
        }
        return JobChange(
            key: JobKey(number: try row[number], lane: try row[lane], id: id), kind: try row[kind],
            userID: try row[userID], queue: try row[queue], sequence: sequence,
            type: try row.word(type, "event type", of: "event \(sequence) of job \(id)"),
            attempt: Int(try row[attempt]), node: try row[node], startedAt: try row[startedAt],
            at: try row[at], dueAt: try row[dueAt],
            error: try error.error(row, of: "event \(sequence) of job \(id)"), result: result)
    }
}
