public import Foundation
import JobModel
public import Logging
@_exported public import Signalbox
import Support

/// Runs a handler as a server does, without a server or a database.
///
/// ```swift
/// @Test func greets() async throws {
///     let outcome = try await HandlerTest(Greet()).run(.init(name: "Ada"))
///     #expect(try outcome.result(as: String.self) == "Hello, Ada!")
///     #expect(outcome.reports.map(\.fraction) == [0.5])
/// }
/// ```
///
/// The properties are what the handler's context has. Timeouts are not kept: `TestAttempt` has a method for each of the
/// things that they do.
public struct HandlerTest<Handler: RawJobHandler>: Sendable {
    /// The handler that is run.
    public let handler: Handler
    /// Runs around the attempt, the first one outermost.
    public var middleware: [any JobMiddleware] = []
    /// The job's id.
    public var jobID = UUID()
    /// The user on whose behalf the job runs.
    public var userID = "user"
    /// The job's queue.
    public var queue = "default"
    /// The job's priority.
    public var priority = 0
    /// The job's labels.
    public var labels: [String: String] = [:]
    /// The number of the attempt, from 1. It is also `JobContext.attemptsUsed`: no attempt before was released.
    public var attempt = 1
    /// The job's budget of attempts.
    public var maxAttempts = 3
    /// The checkpoint that an attempt before has saved, as JSON: that of another outcome, for example.
    public var checkpoint: Data?
    /// The logger that `JobContext.logger` begins with.
    public var logger = Logger(label: "signalbox.testing") { _ in SwiftLogNoOpLogHandler() }

    /// A test of the first of three attempts.
    public init(_ handler: Handler) {
        self.handler = handler
    }

    /// Runs one attempt to its end.
    public func run(payload: JobPayload = JobPayload()) async -> TestOutcome {
        await start(payload: payload).outcome
    }

    /// Starts an attempt, for a test that takes part in it.
    public func start(payload: JobPayload = JobPayload()) -> TestAttempt {
        let run = TestRun(
            jobID: JobID(jobID), kind: Handler.kind, userID: userID, queue: queue, priority: priority,
            labels: Dictionary(
                uniqueKeysWithValues: labels.map { (ExactText($0.key), ExactText($0.value)) }),
            attempt: attempt,
            maxAttempts: maxAttempts, payload: [UInt8](payload.data), contentType: payload.contentType,
            checkpoint: checkpoint.map { [UInt8]($0) }, deadline: .now + handler.timeout)
        return TestAttempt(HandlerRunner(handler, middleware: middleware, logger: logger), run)
    }
}

extension HandlerTest where Handler: JobHandler, Handler.Input: Encodable {
    /// Runs one attempt to its end. Throws what the encoding of `input` throws.
    public func run(_ input: Handler.Input) async throws -> TestOutcome {
        await run(payload: try JobPayload(json: input))
    }

    /// Starts an attempt, for a test that takes part in it. Throws what the encoding of `input` throws.
    public func start(_ input: Handler.Input) throws -> TestAttempt {
        start(payload: try JobPayload(json: input))
    }
}
