import JobModel
import Postgres

extension PostgresError {
    /// Whether the same statement may succeed later, without a change of the service or of what it has stored.
    ///
    /// - Class 53: the server is out of connections, disk or memory.
    /// - Class 57: its operator has stopped it, or a statement of it.
    /// - Class 58: its disk or system has an error.
    /// - 25006 (read_only_sql_transaction): a standby, or a server that was made read-only.
    /// - 25P03 and 25P04: this node was frozen in the middle of a transaction, or it took too long.
    /// - 55P03 (lock_not_available): another transaction has held a lock for too long.
    fileprivate var isPassing: Bool {
        guard let state = sqlState else { return false }
        // exact: five characters of ASCII that the database gives
        return ["53", "57", "58"].contains { state.hasPrefix($0) }
            || ["25006", "25P03", "25P04", "55P03"].contains(state)
    }
}

extension StoreError {
    init(_ error: PostgresError) {
        switch error.code {
        case .connection, .timeout, .shutdown, .resources: self = .unavailable("\(error)")
        case .overloaded: self = .overloaded
        case .server where error.isConnectionLoss || error.isRetryable || error.isPassing:
            self = .unavailable("\(error)")
        case .cancelled: self = .cancelled
        case .server, .decoding, .unknownValue, .usage: self = .broken("\(error)")
        }
    }
}
