import Threads

/// An error of the database or of the connection to it, with the source location at which it was noticed.
package struct PostgresError: Error, Sendable, CustomStringConvertible {
    package enum Code: Sendable, Equatable {
        /// The server refused a statement, with the five characters of SQLSTATE (PostgreSQL manual, appendix A).
        case server(sqlState: String)
        /// There is no connection, or it broke. If a statement was in flight, its outcome is unknown.
        case connection
        /// A deadline passed. If a statement was in flight, its outcome is unknown and its connection is closed.
        case timeout
        /// A value is not of the requested type or length, or is NULL.
        case decoding
        /// A word is not known to this version; a newer version may have written it. The text names the kind of
        /// word and quotes it, for example `state "blocked"`.
        case unknownValue(String)
        /// The `Database` was shut down before the work could start.
        case shutdown
        /// The queue of the `Database` is full; nothing was started.
        case overloaded
        /// The waiting task was cancelled; nothing was started.
        case cancelled
        /// The caller broke a rule of this module, for instance a message over the size limit; nothing was sent.
        case usage
        /// The system refused to create a thread or a pipe.
        case resources
    }

    package var code: Code
    package var message: String
    /// The constraint that a row violated, for integrity violations only.
    package var constraint: String?
    /// The name of the statement that failed.
    package var statement: String?
    /// The name given to `Database.run`.
    package var operation: String?
    package var file: String
    package var line: Int

    package init(
        _ code: Code, _ message: String, constraint: String? = nil, statement: String? = nil,
        file: String = #fileID, line: Int = #line
    ) {
        self.code = code
        self.message = message
        self.constraint = constraint
        self.statement = statement
        self.file = file
        self.line = line
    }

    /// The five characters of SQLSTATE when the server refused the statement.
    package var sqlState: String? {
        if case .server(let sqlState) = code { sqlState } else { nil }
    }

    /// Whether the transaction was rolled back and may succeed if it is run again: serialization_failure and
    /// deadlock_detected.
    package var isRetryable: Bool {
        sqlState == "40001" || sqlState == "40P01"
    }

    /// Whether the connection is lost. The outcome of what was in flight is then unknown.
    ///
    /// Besides our own `connection`, these are class 08 and the server's admin_shutdown (57P01), crash_shutdown
    /// (57P02), cannot_connect_now (57P03) and idle_session_timeout (57P05).
    package var isConnectionLoss: Bool {
        switch code {
        case .connection:
            true
        case .server(let sqlState):
            sqlState.hasPrefix("08") || ["57P01", "57P02", "57P03", "57P05"].contains(sqlState)
        default:
            false
        }
    }

    package var description: String {
        var text = "\(message)"
        if let sqlState { text += " [\(sqlState)]" } else { text += " [\(code)]" }
        if let constraint { text += " constraint \(constraint)" }
        if let statement { text += " in statement \(statement)" }
        if let operation { text += " during \(operation)" }
        return text + " (\(file):\(line))"
    }
}

extension PostgresError {
    init(_ error: OSThreadError, file: String = #fileID, line: Int = #line) {
        self.init(.resources, "\(error)", file: file, line: line)
    }
}

/// Starts a thread of the system, with an error of this module if that fails.
func startThread(
    file: String = #fileID, line: Int = #line, _ run: @escaping @Sendable () -> Void
) throws(PostgresError) {
    do throws(OSThreadError) {
        try OSThread.start(run)
    } catch {
        throw PostgresError(error, file: file, line: line)
    }
}
