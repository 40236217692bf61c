public import Foundation

/// Why a call did not succeed.
public struct SignalboxError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The codes of gRPC.
    public enum Code: Int, Sendable, Hashable, CaseIterable {
        /// The call was given up.
        case cancelled = 1
        /// The server did not say why.
        case unknown = 2
        /// The request is wrong: `violations` names the fields.
        case invalidArgument = 3
        /// There was no answer in time. Whether the call took effect is not known.
        case deadlineExceeded = 4
        /// There is no such job.
        case notFound = 5
        /// The id or the key belongs to a job with other content: `jobID`.
        case alreadyExists = 6
        /// The caller may not do this.
        case permissionDenied = 7
        /// The request is too large, or a quota is used up: `retryDelay` says when there is room.
        case resourceExhausted = 8
        /// The job is not in a state that allows it, or no node handles its kind: `reason` says which.
        case failedPrecondition = 9
        /// The call was stopped by another one.
        case aborted = 10
        /// A sequence is beyond the job's own.
        case outOfRange = 11
        /// The server does not know the call.
        case unimplemented = 12
        /// Something is wrong in the server, or its answer cannot be read.
        case internalError = 13
        /// The server or its database cannot be reached now.
        case unavailable = 14
        /// Data was lost.
        case dataLoss = 15
        /// The caller has no valid credentials.
        case unauthenticated = 16
    }

    /// A field that is wrong.
    public struct Violation: Sendable, Hashable {
        /// Its path, as in `jobs[3].kind`.
        public var field: String
        /// The problem with it for programs, as in `REQUIRED`; empty: the server did not say.
        public var reason: String
        /// The problem with it in words.
        public var description: String

        package init(field: String, reason: String, description: String) {
            self.field = field
            self.reason = reason
            self.description = description
        }
    }

    /// The kind of error, for programs.
    public var code: Code
    /// Why the server refused the call, for programs, as in `JOB_NOT_FOUND`; docs/errors.md lists the reasons. Nil: the
    /// client has made the error, or the server did not say.
    public var reason: String?
    /// The variable parts of the message, as in `jobId`.
    public var metadata: [String: String]
    /// The error in words, for people.
    public var message: String
    /// The fields that are wrong.
    public var violations: [Violation]
    /// The delay that the service asks for before the next try.
    public var retryDelay: Duration?
    /// The quota that is used up, as in `user:ada`.
    public var quota: String?
    /// The job that the error is about.
    public var jobID: UUID?

    package init(
        _ code: Code, _ message: String, reason: String? = nil, metadata: [String: String] = [:],
        violations: [Violation] = [], retryDelay: Duration? = nil,
        quota: String? = nil, jobID: UUID? = nil
    ) {
        self.code = code
        self.reason = reason
        self.metadata = metadata
        self.message = message
        self.violations = violations
        self.retryDelay = retryDelay
        self.quota = quota
        self.jobID = jobID
    }

    /// The code, the message and the fields.
    public var description: String {
        (["\(code): \(message)"] + violations.map { "\($0.field): \($0.description)" }).joined(
            separator: "; ")
    }
}

/// A job ended without success.
public struct JobUnsuccessful: Error, Sendable, CustomStringConvertible {
    /// The job as it ended: failed or cancelled.
    public var job: Job

    /// The state and why.
    public var description: String {
        "job \(job.id.uuidString.lowercased()) is \(job.state.rawValue)"
            + (job.failure.map { " (\($0))" } ?? "")
    }
}
