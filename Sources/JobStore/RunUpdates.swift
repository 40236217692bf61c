package import JobModel
import Postgres

extension RunUpdate {
    /// In bytes, for the group commit.
    var cost: Int { log.reduce(512) { $0 + 64 + $1.message.utf8.count } }

    fileprivate var saved: [Notice] {
        var notices: [Notice] = []
        if let progress { notices.append(.progress(key, attempt: attempt, progress, isSaved: true)) }
        if !log.isEmpty { notices.append(.log(key, log, isSaved: true)) }
        return notices
    }
}

extension Statement {
    static let saveProgress = Statement(
        "save_progress",
        """
        WITH input AS (
            SELECT t.*, live.lane FROM unnest(
                $2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::float8[], $7::text[], $8::int[],
                $9::int[], $10::timestamptz[])
            AS t (number, token, attempt, stage, fraction, message, step, steps, updated_at)
            JOIN live ON \(lookUp("live.number", "t.number")) AND live.token = t.token
        ), told AS (
            INSERT INTO change (node, jobs, lanes, sequences)
            SELECT $1, array_agg(number), array_agg(lane), array_agg(0::bigint) FROM input
            HAVING count(*) > 0
        )
        INSERT INTO progress (number, attempt, stage, fraction, message, step, steps, updated_at)
        SELECT number, attempt, stage, fraction, message, step, steps, updated_at FROM input ORDER BY number
        ON CONFLICT (number) DO UPDATE SET attempt = excluded.attempt, stage = excluded.stage,
            fraction = excluded.fraction, message = excluded.message, step = excluded.step,
            steps = excluded.steps, updated_at = excluded.updated_at
        """)

    static let saveLog = Statement(
        "save_log",
        """
        WITH input AS (
            SELECT t.*, live.lane FROM unnest(
                $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::int[], $7::text[],
                $8::text[])
            AS t (number, token, line, at, attempt, level, message)
            JOIN live ON \(lookUp("live.number", "t.number")) AND live.token = t.token
        ), told AS (
            INSERT INTO change (node, jobs, lanes, sequences)
            SELECT $1, array_agg(number), array_agg(lane), array_agg(0::bigint)
            FROM (SELECT DISTINCT number, lane FROM input) AS jobs HAVING count(*) > 0
        )
        INSERT INTO log_line (number, line, at, attempt, level, message)
        SELECT number, line, at, attempt, level, message FROM input
        ON CONFLICT DO NOTHING
        """)

    static let trimLog = Statement(
        "trim_log",
        """
        DELETE FROM log_line
        USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS t (number, token, first)
        JOIN live ON \(lookUp("live.number", "t.number")) AND live.token = t.token
        WHERE \(lookUp("log_line.number", "t.number")) AND log_line.line < t.first
        """)

    static let saveCheckpoint = Statement(
        "save_checkpoint",
        """
        INSERT INTO checkpoint (number, data, saved_at)
        SELECT number, $3, now() FROM live WHERE number = $1 AND token = $2
        ON CONFLICT (number) DO UPDATE SET data = excluded.data, saved_at = excluded.saved_at
        """)
}

extension JobStore {
    /// Keeps the latest progress and the log lines of running jobs; those of a stale run are dropped. Many calls
    /// share a commit. Watchers of this node heard of them when they were said, and hear once more, and the feed
    /// hears that there is something to read.
    package func save(_ telemetry: [RunUpdate]) async throws(StoreError) {
        guard !telemetry.isEmpty else { return }
        try await self.telemetry.submit(telemetry) {
            startWriter(self.telemetry) { [self] calls, connection throws(PostgresError) in
                try commit(telemetry: calls.flatMap { $0 }, connection)
                return calls.map { _ in .success(()) }
            }
        }
        tell(telemetry.flatMap(\.saved))
    }

    private func commit(telemetry: [RunUpdate], _ connection: Connection) throws(PostgresError) {
        let node = nodeNumber
        var queries: [Query] = []
        let reports = telemetry.filter { $0.progress != nil }
        if !reports.isEmpty {
            let progress = reports.compactMap(\.progress)
            queries.append(
                Query(
                    .saveProgress,
                    Parameters {
                        $0.append(node)
                        $0.append(reports.map(\.key.number))
                        $0.append(reports.map(\.token))
                        $0.append(reports.map { Int32($0.attempt) })
                        $0.append(progress.map(\.stage))
                        $0.append(progress.map(\.fraction))
                        $0.append(progress.map(\.message))
                        $0.append(progress.map { Int32($0.step) })
                        $0.append(progress.map { Int32($0.steps) })
                        $0.append(timestamps: progress.map(\.updatedAt.microseconds))
                    }))
        }
        let lines = telemetry.flatMap { item in item.log.map { (item, $0) } }
        if !lines.isEmpty {
            queries.append(
                Query(
                    .saveLog,
                    Parameters {
                        $0.append(node)
                        $0.append(lines.map(\.0.key.number))
                        $0.append(lines.map(\.0.token))
                        $0.append(lines.map(\.1.number))
                        $0.append(timestamps: lines.map(\.1.at.microseconds))
                        $0.append(lines.map { Int32($0.1.attempt) })
                        $0.append(lines.map(\.1.level.rawValue))
                        $0.append(lines.map(\.1.message))
                    }))
            let kept = Int64(JobLimits.logLinesKept)
            let trimmed = telemetry.filter { ($0.log.last?.number ?? 0) > kept }
            if !trimmed.isEmpty {
                queries.append(
                    Query(
                        .trimLog,
                        Parameters {
                            $0.append(trimmed.map(\.key.number))
                            $0.append(trimmed.map(\.token))
                            $0.append(trimmed.map { ($0.log.last?.number ?? 0) - kept + 1 })
                        }))
            }
        }
        _ = try connection.transaction(queries)
    }

    /// Keeps what the next attempt is to receive. Throws `stale` when the run has lost its lease.
    package func save(checkpoint: [UInt8], of key: JobKey, token: Int64) async throws(StoreError) {
        let written = try await run("checkpoint") { connection throws(PostgresError) in
            try connection.execute(
                .saveCheckpoint,
                Parameters {
                    $0.append(key.number)
                    $0.append(token)
                    $0.append(bytes: checkpoint)
                }
            ).affectedRows
        }
        guard written == 1 else { throw .stale }
    }
}
