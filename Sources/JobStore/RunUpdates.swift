package import JobModel
import Postgres

extension RunUpdate {
    /// The cost in bytes, for the group commit.
    var cost: Int { log.reduce(512) { $0 + 64 + $1.message.utf8.count } }

    fileprivate var saved: [LocalChange] {
        var changes: [LocalChange] = []
        if let progress { changes.append(.progress(run, progress, isSaved: true)) }
        if !log.isEmpty { changes.append(.log(run.key, log, isSaved: true)) }
        return changes
    }
}

/// Saves the progress of running jobs. Updates of a run that has lost its lease are dropped.
struct SaveProgress: Command {
    let node: Int32
    let numbers: [Int64]
    let tokens: [Int64]
    let startedAts: [Timestamp]
    let attempts: [Int32]
    let stages: [String]
    let fractions: [Double]
    let messages: [String]
    let done: [Int64]
    let totals: [Int64]
    /// `done` and `totals` in 32 bits, for nodes of the release before 0009_attempts.
    let step: [Int32]
    let steps: [Int32]
    let updatedAt: [Timestamp]

    static let statement = ParameterizedStatement<Self>(
        "save_progress",
        """
        WITH input AS (
            SELECT t.*, live.lane FROM unnest(
                \(\.numbers), \(\.tokens), \(\.startedAts), \(\.attempts), \(\.stages), \(\.fractions),
                \(\.messages), \(\.step), \(\.steps), \(\.done), \(\.totals), \(\.updatedAt))
            AS t (
                number, token, started_at, attempt, stage, fraction, message, step, steps, done, total, updated_at)
            JOIN live ON \(.isRun("t"))
        ), \(.announcing("input", node: \.node, sequence: "0::bigint"))
        INSERT INTO progress (number, attempt, stage, fraction, message, step, steps, done, total, updated_at)
        SELECT number, attempt, stage, fraction, message, step, steps, done, total, updated_at FROM input
        ORDER BY number
        ON CONFLICT (number) DO UPDATE SET attempt = excluded.attempt, stage = excluded.stage,
            fraction = excluded.fraction, message = excluded.message, step = excluded.step,
            steps = excluded.steps, done = excluded.done, total = excluded.total, updated_at = excluded.updated_at
        """)
}

/// Adds lines to the logs of running jobs. Lines of a run that has lost its lease are dropped.
struct SaveLog: Command {
    let node: Int32
    let numbers: [Int64]
    let tokens: [Int64]
    let startedAts: [Timestamp]
    let lines: [Int64]
    let times: [Timestamp]
    let attempts: [Int32]
    let levels: [String]
    let messages: [String]

    static let statement = ParameterizedStatement<Self>(
        "save_log",
        """
        WITH input AS (
            SELECT t.*, live.lane FROM unnest(
                \(\.numbers), \(\.tokens), \(\.startedAts), \(\.lines), \(\.times), \(\.attempts), \(\.levels),
                \(\.messages))
            AS t (number, token, started_at, line, at, attempt, level, message)
            JOIN live ON \(.isRun("t"))
        ), \(.announcing("(SELECT DISTINCT number, lane FROM input) AS jobs", node: \.node, sequence: "0::bigint"))
        INSERT INTO log_line (number, line, at, attempt, level, message)
        SELECT number, line, at, attempt, level, message FROM input
        ON CONFLICT DO NOTHING
        """)
}

/// Removes the lines before the first one to keep.
struct TrimLog: Command {
    let numbers: [Int64]
    let tokens: [Int64]
    let startedAts: [Timestamp]
    let firstLines: [Int64]

    static let statement = ParameterizedStatement<Self>(
        "trim_log",
        """
        DELETE FROM log_line
        USING unnest(\(\.numbers), \(\.tokens), \(\.startedAts), \(\.firstLines))
            AS t (number, token, started_at, first)
        JOIN live ON \(.isRun("t"))
        WHERE \(.lookUp("log_line.number", "t.number")) AND log_line.line < t.first
        """)
}

struct SaveCheckpoint: Command {
    let run: RunFence
    let data: [UInt8]

    static let statement = ParameterizedStatement<Self>(
        "save_checkpoint",
        """
        INSERT INTO checkpoint (number, data, saved_at)
        SELECT number, \(\.data), now() FROM live
        WHERE number = \(\.run.number) AND token = \(\.run.token) AND started_at = \(\.run.startedAt)
        ON CONFLICT (number) DO UPDATE SET data = excluded.data, saved_at = excluded.saved_at
        """)
}

extension JobStore {
    /// Saves the latest progress and the log lines of running jobs; those of a stale run are dropped. Many calls
    /// share a commit. Watchers of this node were sent the updates when they were made. The observer receives
    /// them again when they are saved, and other nodes read them from the change log.
    package func save(_ updates: [RunUpdate]) async throws(StoreError) {
        guard !updates.isEmpty else { return }
        try await runUpdates.submit(updates) {
            startWriter(runUpdates) { [self] calls, connection throws(PostgresError) in
                try commit(updates: calls.flatMap { $0 }, connection)
                return calls.map { _ in .success(()) }
            }
        }
        publish(updates.flatMap(\.saved))
    }

    private func commit(updates: [RunUpdate], _ connection: Connection) throws(PostgresError) {
        let node = nodeNumber
        var queries: [Query] = []
        let reports = updates.filter { $0.progress != nil }
        if !reports.isEmpty {
            queries.append(Query(SaveProgress(reports, node: node)))
        }
        // A line of a run has a level, because the handler has chosen it.
        let lines = updates.flatMap { item in
            item.log.compactMap { line in line.level.map { (item, line, $0) } }
        }
        if !lines.isEmpty {
            queries.append(
                Query(
                    SaveLog(
                        node: node, numbers: lines.map(\.0.run.key.number), tokens: lines.map(\.0.run.token),
                        startedAts: lines.map(\.0.run.startedAt), lines: lines.map(\.1.number),
                        times: lines.map(\.1.at),
                        attempts: lines.map { Int32($0.1.attempt) },
                        levels: lines.map(\.2.rawValue),
                        messages: lines.map(\.1.message))))
            let kept = Int64(JobLimits.logLinesKept)
            let trimmed = updates.filter { ($0.log.last?.number ?? 0) > kept }
            if !trimmed.isEmpty {
                queries.append(
                    Query(
                        TrimLog(
                            numbers: trimmed.map(\.run.key.number), tokens: trimmed.map(\.run.token),
                            startedAts: trimmed.map(\.run.startedAt),
                            firstLines: trimmed.map { ($0.log.last?.number ?? 0) - kept + 1 })))
            }
        }
        _ = try connection.transaction(queries)
    }

    /// Saves the checkpoint that the next attempt will receive. Throws `stale` when the run has lost its lease.
    package func save(checkpoint: [UInt8], of run: RunFence) async throws(StoreError) {
        let written = try await self.run("checkpoint") { connection throws(PostgresError) in
            try connection.execute(SaveCheckpoint(run: run, data: checkpoint)).affectedRows
        }
        guard written == 1 else { throw .stale }
    }
}

extension SaveProgress {
    /// - Parameter updates: updates that have progress.
    fileprivate init(_ updates: [RunUpdate], node: Int32) {
        let progress = updates.compactMap(\.progress)
        self.init(
            node: node, numbers: updates.map(\.run.key.number), tokens: updates.map(\.run.token),
            startedAts: updates.map(\.run.startedAt),
            attempts: updates.map { Int32($0.run.attempt) }, stages: progress.map(\.stage),
            // Nodes of the release before 0009_attempts read NaN as 0.
            fractions: progress.map { $0.fraction ?? .nan }, messages: progress.map(\.message),
            done: progress.map(\.done), totals: progress.map(\.total),
            step: progress.map { Int32(clamping: $0.done) },
            steps: progress.map { Int32(clamping: $0.total) },
            updatedAt: progress.map(\.updatedAt))
    }
}
