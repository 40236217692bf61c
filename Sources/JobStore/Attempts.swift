package import JobModel
import Postgres

// Pages of what one job has much of: its attempts and its log.

extension FindEvents {
    /// Reads the ends of attempts after a sequence, and the present state.
    static let attempts = ParameterizedStatement<Self>(
        "find_attempts", events(history: "ASC", "AND started_at IS NOT NULL"))

    /// - Parameter sequence: 1 or more: event 1, that the job was enqueued, is of no attempt.
    init(attemptsOf number: Int64, after sequence: Int64, atMost count: Int) {
        self.init(after: [number: sequence])
        historyMax = Int64(count)
        resultBytesMax = 0
    }
}

/// Reads the first lines of a job's log after a line.
struct FindLogPage: Command {
    let number: Int64
    /// The number may be that of another job by now, whose log is not read.
    let id: JobID
    let after: Int64
    /// The levels of the lines; nil: every level.
    let levels: [String]?
    let size: Int64

    static let statement = ParameterizedStatement<Self>(
        "find_log_page",
        """
        SELECT number, line, at, attempt, level, message FROM log_line
        WHERE number = \(\.number) AND line > \(\.after)
            AND EXISTS (SELECT FROM job WHERE job.number = \(\.number) AND job.id = \(\.id))
            AND (\(\.levels) IS NULL OR level = ANY (\(\.levels)))
        ORDER BY line LIMIT \(\.size)
        """)
}

extension JobStore {
    /// One page of a job's attempts, oldest first; nil if there is no such job. The position of an attempt is the sequence
    /// of the event that ended it, or that started it if it still runs.
    ///
    /// - Parameter position: the page begins behind it; nil: with the first attempt.
    package func attempts(
        of id: JobID, for users: UserScope, after position: Int64?, size: Int
    ) async throws(StoreError) -> StorePage<Attempt>? {
        try await read("attempts", isLong: true) { connection throws(PostgresError) in
            guard let number = try Self.number(of: id, for: users, connection) else { return nil }
            let rows = try connection.execute(
                FindEvents.attempts,
                FindEvents(attemptsOf: number, after: max(1, position ?? 1), atMost: size + 1))
            let reader = try ChangeReader(rows)
            var changes: [JobChange] = []
            for row in rows {
                let change = try reader.change(row)
                // A job that was cancelled before it ran has an end, but no attempt.
                // The number may have become that of another job since it was looked up.
                if change.key.id == id, change.type == .started || change.startedAt != nil {
                    changes.append(change)
                }
            }
            // If the history has more than a page, the present state is behind a gap, and is cut off here.
            let attempts = try JobChange.attempts(Array(changes.prefix(size + 1)))
            return StorePage(zip(attempts, changes).map { ($0, $1.sequence) }, size: size)
        }
    }

    /// One page of the lines that a job's log has kept, oldest first; nil if there is no such job. The position of a line is
    /// its number.
    ///
    /// - Parameters:
    ///   - position: the page has only later lines.
    ///   - level: the lowest level; nil: every level.
    package func logLines(
        of id: JobID, for users: UserScope, after position: Int64, from level: LogLine.Level?, size: Int
    ) async throws(StoreError) -> StorePage<LogLine>? {
        try await read("log_lines", isLong: true) { connection throws(PostgresError) in
            guard let number = try Self.number(of: id, for: users, connection) else { return nil }
            let rows = try connection.execute(
                FindLogPage(
                    number: number, id: id, after: position, levels: level?.orHigher.map(\.rawValue),
                    size: Int64(size + 1)))
            let reader = try LogReader(rows)
            var lines: [(item: LogLine, position: Int64)] = []
            for row in rows {
                let line = try reader.line(row)
                lines.append((line, line.number))
            }
            return StorePage(lines, size: size)
        }
    }

    private static func number(
        of id: JobID, for users: UserScope, _ connection: Connection
    ) throws(PostgresError) -> Int64? {
        let found = try connection.execute(FindNumbers(ids: [id], users: users))
        return try found.first?[found.column("number")]
    }
}

extension LogLine.Level {
    /// This level and those above it.
    fileprivate var orHigher: [LogLine.Level] {
        switch self {
        case .debug: [.debug, .info, .warning, .error]
        case .info: [.info, .warning, .error]
        case .warning: [.warning, .error]
        case .error: [.error]
        }
    }
}
