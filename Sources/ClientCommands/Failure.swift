import ArgumentParser
import JobModel
import SignalboxClient
import SignalboxProto
import GRPC

extension ExitCode {
    /// A watched job did not succeed.
    static let jobFailed = ExitCode(1)
    static let notFound = ExitCode(3)
    /// There is no connection, no response in time, or the server is not serving.
    static let unavailable = ExitCode(4)
    /// The server refused the call.
    static let refused = ExitCode(5)
    /// The exit code of a program that SIGPIPE ended: the reader of the output has closed it.
    static let outputClosed = ExitCode(141)
}

extension Status {
    var exitCode: ExitCode {
        switch code {
        case .notFound: .notFound
        case .unavailable, .deadlineExceeded: .unavailable
        case .ok, .cancelled, .unknown, .invalidArgument, .alreadyExists, .permissionDenied,
            .resourceExhausted, .failedPrecondition, .aborted, .outOfRange, .unimplemented, .internalError,
            .dataLoss, .unauthenticated:
            .refused
        }
    }

    /// The wrong fields, if the status has any.
    var violations: [StatusDetails.Violation] { decodedDetails?.badRequest ?? [] }

    /// The message, and a line for each wrong field.
    var explanation: [String] {
        let summary = message.isEmpty ? code.word : "\(code.word): \(message.printable)"
        return [summary] + violations.map { "  \($0.field.printable): \($0.description.printable)" }
    }
}

extension Status.Code {
    var word: String {
        switch self {
        case .ok: "ok"
        case .cancelled: "cancelled"
        case .unknown: "unknown error"
        case .invalidArgument: "invalid argument"
        case .deadlineExceeded: "no answer in time"
        case .notFound: "not found"
        case .alreadyExists: "already exists"
        case .permissionDenied: "permission denied"
        case .resourceExhausted: "limit exceeded"
        case .failedPrecondition: "failed precondition"
        case .aborted: "aborted"
        case .outOfRange: "out of range"
        case .unimplemented: "not implemented by this server"
        case .internalError: "internal error of the server"
        case .unavailable: "unavailable"
        case .dataLoss: "data loss"
        case .unauthenticated: "not authenticated"
        }
    }
}

/// Writes an error message to standard error.
func complain(_ lines: [String]) throws {
    guard let first = lines.first else { return }
    try Terminal.write(
        (["signalbox: \(first)"] + lines.dropFirst()).joined(separator: "\n") + "\n", to: .error)
}

func complain(_ line: String) throws {
    try complain([line])
}
