/// Runs the jobs of one kind.
///
/// ```swift
/// struct Greet: JobHandler {
///     static let kind = "greet"
///     let timeout: Duration = .seconds(30)
///     struct Input: Codable, Sendable { var name: String }
///     func run(_ input: Input, context: JobContext) async throws -> String { "Hello, \(input.name)!" }
/// }
/// ```
///
/// `run` is called once per attempt, many at a time. Cancel, timeout and a lost lease arrive as cancellation
/// of its task; it should end soon then. What it throws decides what follows: a `JobFailure` as it says,
/// anything else is a failed attempt that is tried again while there are attempts left. The job's user reads what a
/// `JobFailure` says. Of anything else he is told the type alone, and the server's log has the rest: such errors tell
/// of the server's files, addresses or secrets.
///
/// Handlers run on threads of their own, twice the cores and at least 4. One that blocks its thread delays other
/// handlers, but not the server. A task that it starts with `Task` runs elsewhere and must not block.
public protocol JobHandler: Sendable {
    /// Read from the payload, which must be JSON.
    associatedtype Input: Decodable & Sendable
    /// Written to the result as JSON, at most 1 MiB.
    associatedtype Output: Encodable & Sendable

    /// 1 to 128 characters of a–z, A–Z, 0–9, `.`, `_`, `-`, `/`.
    static var kind: String { get }
    /// Hard limit of one attempt. There is no default.
    var timeout: Duration { get }
    /// When an attempt is told to wrap up, less than `timeout`; nil: never.
    var softTimeout: Duration? { get }
    /// What becomes of a run whose node died.
    var onInterruption: InterruptionPolicy { get }

    /// Runs one attempt.
    func run(_ input: Input, context: JobContext) async throws -> Output
}

extension JobHandler {
    /// Never.
    public var softTimeout: Duration? { nil }
    /// Queued again.
    public var onInterruption: InterruptionPolicy { .retry }
}

/// What becomes of a run whose node died.
public enum InterruptionPolicy: Sendable {
    /// The job is queued again.
    case retry
    /// The job has failed, with the reason `interrupted`.
    case fail
}

/// How a handler says more than "it failed".
public struct JobFailure: Error, Sendable {
    /// A word for programs, at most 64 bytes.
    public var reason: String
    /// For the job's user, at most 4,096 bytes.
    public var message: String
    /// No further attempt.
    public var isPermanent: Bool
    /// When to try again, instead of what the job's policy says.
    public var retryAfter: Duration?
    /// What is only for the server's log: paths, or what another library's error says.
    public var details: String?

    /// A failure that ends the job.
    public static func permanent(
        _ message: String, reason: String = "permanent", details: String? = nil
    ) -> JobFailure {
        JobFailure(
            reason: reason, message: message, isPermanent: true, retryAfter: nil, details: details)
    }

    /// A failure after which the job is tried again: after `after`, else as its policy says.
    public static func retry(
        _ message: String, reason: String = "failed", after: Duration? = nil, details: String? = nil
    ) -> JobFailure {
        JobFailure(
            reason: reason, message: message, isPermanent: false, retryAfter: after, details: details)
    }
}
