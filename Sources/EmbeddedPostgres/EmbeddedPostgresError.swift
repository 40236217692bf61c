/// The reason why there is no embedded Postgres. The message is for the person who started this program.
package struct EmbeddedPostgresError: Error, CustomStringConvertible {
    package enum Code: Sendable, Equatable {
        /// No Postgres server is installed, or not the version that the data needs.
        case binaries
        /// The state directory cannot be used.
        case stateDirectory
        /// Another process uses the state directory.
        case inUse
        /// A tool of Postgres failed or did not end in time.
        case tool
        /// The server does not answer.
        case notAnswering
    }

    package let code: Code
    package let message: String
    package let cause: (any Error)?

    init(_ code: Code, _ message: String, cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    package var description: String {
        cause.map { "\(message): \($0)" } ?? message
    }
}
