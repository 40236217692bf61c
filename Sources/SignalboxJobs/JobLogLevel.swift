package import JobModel

/// The weight of a line in a job's log.
public enum JobLogLevel: String, Sendable, Hashable {
    /// For developers.
    case debug
    /// Normal operation.
    case info
    /// Something that may need attention.
    case warning
    /// Something went wrong.
    case error

    package var line: LogLine.Level {
        switch self {
        case .debug: .debug
        case .info: .info
        case .warning: .warning
        case .error: .error
        }
    }

    package init(_ level: LogLine.Level) {
        switch level {
        case .debug: self = .debug
        case .info: self = .info
        case .warning: self = .warning
        case .error: self = .error
        }
    }
}
