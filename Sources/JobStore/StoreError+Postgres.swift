import JobModel
import Postgres

extension StoreError {
    init(_ error: PostgresError) {
        switch error.code {
        case .connection, .timeout, .shutdown, .resources: self = .unavailable("\(error)")
        case .overloaded: self = .overloaded
        case .server where error.isConnectionLoss || error.isRetryable: self = .unavailable("\(error)")
        // The database is out of connections, disk or memory, or its operator stopped it: it is unavailable, not
        // broken.
        // exact: five characters of ASCII that the database gives
        case .server(let state) where state.hasPrefix("53") || state.hasPrefix("57"):
            self = .unavailable("\(error)")
        case .cancelled: self = .cancelled
        case .server, .decoding, .unknownValue, .usage: self = .broken("\(error)")
        }
    }
}
