import ArgumentParser
import JobModel
import SignalboxProto
import GRPC

extension ExitCode {
    /// What was watched did not succeed.
    static let jobFailed = ExitCode(1)
    static let notFound = ExitCode(3)
    /// No connection, no answer in time, or not serving.
    static let unavailable = ExitCode(4)
    /// The server answered that it will not.
    static let refused = ExitCode(5)
    /// As a program that SIGPIPE ended: nobody reads the output any more.
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

    /// The fields that are wrong, if it says so.
    var violations: [FieldViolation] { decodedDetails?.badRequest ?? [] }

    var retryDelay: Duration? { decodedDetails?.retryDelay }

    private var decodedDetails: StatusDetails? {
        details.isEmpty ? nil : try? StatusDetails.decode(details)
    }

    /// For people: the message, then a line for each field that is wrong.
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
        case .resourceExhausted: "too much"
        case .failedPrecondition: "not possible now"
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

/// Says on standard error what is wrong.
func complain(_ lines: [String]) throws {
    guard let first = lines.first else { return }
    try Terminal.write(
        (["signalbox: \(first)"] + lines.dropFirst()).joined(separator: "\n") + "\n", to: .error)
}

func complain(_ line: String) throws {
    try complain([line])
}
