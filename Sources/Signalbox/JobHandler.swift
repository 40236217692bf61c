@_exported public import SignalboxJobs

/// Runs the jobs of one kind, with payloads and results of any format. `JobHandler` is for JSON.
///
/// ```swift
/// struct Thumbnail: RawJobHandler {
///     static let kind = "media.thumbnail"
///     let timeout: Duration = .seconds(60)
///     func run(payload: JobPayload, context: JobContext) async throws -> JobPayload {
///         JobPayload(try scale(payload.data, type: payload.contentType), contentType: "image/png")
///     }
/// }
/// ```
///
/// `run` is called once per attempt, many at a time. Cancellation, the timeout and a lost lease cancel its task;
/// it should end soon then. The error that it throws decides what happens next. A `JobFailure` says so itself,
/// and its message is shown to the job's user. After any other error the attempt has failed and is retried while
/// there are attempts left. Of such an error the user only sees the type, and the details are in the server's
/// log, because they may contain the server's files, addresses or secrets.
///
/// Handlers run on threads of their own, twice the cores and at least 4. One that blocks its thread delays other
/// handlers, but not the server. A task that it starts with `Task` runs elsewhere and must not block.
public protocol RawJobHandler: Sendable {
    /// The kind: 1 to 128 characters of a–z, A–Z, 0–9, `.`, `_`, `-`, `/`.
    static var kind: String { get }
    /// The hard limit of one attempt. There is no default.
    var timeout: Duration { get }
    /// The time after which an attempt is asked to finish, less than `timeout`; nil: it is not asked.
    var softTimeout: Duration? { get }
    /// The policy for a run whose node died.
    var onInterruption: InterruptionPolicy { get }

    /// Runs one attempt, and returns a result of at most 1 MiB.
    func run(payload: JobPayload, context: JobContext) async throws -> JobPayload
}

extension RawJobHandler {
    /// Nil: there is no soft timeout.
    public var softTimeout: Duration? { nil }
    /// The default, `retry`: the job is queued again.
    public var onInterruption: InterruptionPolicy { .retry }
}

/// Runs the jobs of one kind, whose payload and result are JSON.
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
/// A payload that cannot be decoded as `Input` fails the job permanently, with the reason `bad_input`. See
/// `RawJobHandler` for the other rules of handlers.
public protocol JobHandler: RawJobHandler {
    /// The input, decoded from the payload, which must be JSON. An empty payload is read as `null`, for optional
    /// inputs.
    associatedtype Input: Decodable & Sendable
    /// The output, encoded as JSON for the result.
    associatedtype Output: Encodable & Sendable

    /// Runs one attempt, and returns a result of at most 1 MiB as JSON.
    func run(_ input: Input, context: JobContext) async throws -> Output
}

extension JobHandler {
    /// Reads the input, runs the attempt and writes the output.
    public func run(payload: JobPayload, context: JobContext) async throws -> JobPayload {
        let input: Input
        do {
            input = try payload.decoded()
        } catch {
            // A DecodingError is about the payload, which is the user's own. Any other error comes from the type's code.
            let isOfPayload = error is DecodingError
            let text = isOfPayload ? "\(error)" : "an error of type \(type(of: error))"
            throw JobFailure.permanent(
                "the payload is not what \(Self.kind) takes: \(text)", reason: "bad_input",
                details: isOfPayload ? nil : "\(error)")
        }
        return try JobPayload(json: await run(input, context: context))
    }
}

/// The policy for a run whose node died.
public enum InterruptionPolicy: Sendable {
    /// The job is queued again.
    case retry
    /// The job fails, with the cause `interrupted`.
    case fail
}
