import Foundation
import JobModel
import JobEngine
import Logging
import SignalboxJobs
import Support
import Synchronization
import Testing

@testable import Signalbox

@Suite struct HandlerRunnerTests {
    private static let logger = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

    /// Says whether it runs on the handlers' threads.
    private struct Where: JobHandler {
        static let kind = "where"
        let timeout: Duration = .seconds(1)

        func run(_ input: Bool?, context: JobContext) async throws -> Bool {
            let executor = try HandlerThreads.executor.get()
            return Self.isRunning(on: executor)
        }

        private static func isRunning(on executor: some TaskExecutor) -> Bool {
            withUnsafeCurrentTask { $0?.unownedTaskExecutor == executor.asUnownedTaskExecutor() }
        }
    }

    private struct StubRun: Run {
        let jobID = JobID("0197a000-0000-7000-8000-000000000001")!
        let kind = "where"
        let userID = "u"
        let queue = "default"
        let priority = 0
        let labels: [ExactText: ExactText] = [:]
        var contentType = "application/json"
        let attempt = 1
        var attemptsUsed: Int { attempt }
        let maxAttempts = 1
        var payload: [UInt8] = []
        var checkpoint: [UInt8]?
        let deadline = ContinuousClock.now + .seconds(1)
        let grace: Duration = .zero

        func report(stage: String, fraction: Double?, message: String, done: Int64, total: Int64) {}
        func log(_ level: LogLine.Level, _ message: String) {}
        func save(checkpoint: [UInt8]) async throws {}
        func softTimeout() async throws {}
        func abandoned() async throws {}
    }

    /// An input whose own code refuses it.
    private struct Picky: JobHandler {
        static let kind = "picky"
        let timeout: Duration = .seconds(1)

        struct Refusal: Error {
            let path = "/srv/secret"
        }

        struct Input: Decodable, Sendable {
            init(from decoder: any Decoder) throws { throw Refusal() }
        }

        func run(_ input: Input, context: JobContext) async throws -> Bool { true }
    }

    private struct Failing: JobHandler {
        static let kind = "failing"
        let timeout: Duration = .seconds(1)

        func run(_ input: Bool?, context: JobContext) async throws -> Bool {
            throw JobFailure.retry("try later", details: "/srv/secret is full")
        }
    }

    private func runner(
        _ handler: some RawJobHandler, middleware: [any JobMiddleware] = []
    ) -> any JobRunner {
        func open(_ handler: some RawJobHandler) -> any JobRunner {
            HandlerRunner(handler, middleware: middleware, logger: Self.logger)
        }
        return open(handler)
    }

    private func failure(_ runner: any JobRunner, payload: String = "") async throws -> RunFailure {
        var run = StubRun()
        run.payload = Array(payload.utf8)
        return try await #require(throws: RunFailure.self) { try await runner.run(run) }
    }

    @Test func whatIsWrongWithAPayloadIsForItsUser() async throws {
        let wrong = try await failure(runner(Where()), payload: "[1]")
        #expect(wrong.reason == "bad_input" && wrong.isPermanent && wrong.details == nil)
        #expect(wrong.message.hasPrefix("the payload is not what where takes: DecodingError"))
        let refused = try await failure(runner(Picky()), payload: "[1]")
        #expect(refused.reason == "bad_input" && refused.isPermanent)
        #expect(refused.message == "the payload is not what picky takes: an error of type Refusal")
        #expect(refused.details?.contains("/srv/secret") == true)
    }

    @Test func detailsOfAFailureAreNotItsMessage() async throws {
        let failure = try await failure(runner(Failing()))
        #expect(failure.message == "try later" && failure.details == "/srv/secret is full")
    }

    @Test func handlersRunOnThreadsThatTheyMayBlock() async throws {
        let result = try await runner(Where()).run(StubRun())
        #expect(String(decoding: result.data, as: UTF8.self) == "true")
    }

    // MARK: Payloads that are not JSON

    private struct Reverse: RawJobHandler {
        static let kind = "reverse"
        let timeout: Duration = .seconds(1)
        var contentType = "text/plain"

        func run(payload: JobPayload, context: JobContext) async throws -> JobPayload {
            #expect(payload == context.payload && payload.contentType == "application/octet-stream")
            return JobPayload(payload.data.reversed(), contentType: contentType)
        }
    }

    @Test func bytesGoInAndOut() async throws {
        var run = StubRun()
        run.payload = [1, 2, 255]
        run.contentType = "application/octet-stream"
        let result = try await runner(Reverse()).run(run)
        #expect(result.data == [255, 2, 1] && result.contentType == "text/plain")
    }

    @Test(arguments: ["", "a\nb", String(repeating: "t", count: 129)])
    func aContentTypeThatCannotBeKeptFailsTheJob(_ contentType: String) async throws {
        var run = StubRun()
        run.contentType = "application/octet-stream"
        let failure = try await #require(throws: RunFailure.self) {
            try await runner(Reverse(contentType: contentType)).run(run)
        }
        #expect(failure.isPermanent && failure.message.hasPrefix("the content type of the result"))
    }

    @Test func aLongKeyIsRefusedBeforeItIsLookedUp() async throws {
        let key = String(repeating: "k", count: 1025)
        let failure = try await failure(runner(Where()), payload: "{\"\(key)\": 1}")
        #expect(failure.reason == "bad_input" && failure.message.contains("more than 1024 bytes"))
    }

    // MARK: Middleware

    /// Notes when it begins and ends, and puts its name around the result.
    private struct Noting: JobMiddleware {
        let name: String
        let note: @Sendable (String) -> Void

        func run(
            _ context: JobContext, next: @escaping @Sendable () async throws -> JobPayload
        ) async throws -> JobPayload {
            note("\(name) begins \(context.kind)")
            do {
                let result = try await next()
                note("\(name) ends")
                return JobPayload(Data(name.utf8) + result.data, contentType: result.contentType)
            } catch {
                note("\(name) fails: \((error as? JobFailure)?.message ?? "?")")
                throw error
            }
        }
    }

    @Test func middlewareIsAroundTheRunInOrder() async throws {
        let notes = Mutex<[String]>([])
        let middleware = ["a", "b"].map { name in
            Noting(name: name) { note in notes.withLock { $0.append(note) } }
        }
        let result = try await runner(Where(), middleware: middleware).run(StubRun())
        #expect(String(decoding: result.data, as: UTF8.self) == "abtrue")
        #expect(notes.withLock { $0 } == ["a begins where", "b begins where", "b ends", "a ends"])
    }

    @Test func middlewareSeesTheFailureOfTheHandler() async throws {
        let notes = Mutex<[String]>([])
        let noting = Noting(name: "a") { note in notes.withLock { $0.append(note) } }
        let failure = try await failure(runner(Failing(), middleware: [noting]))
        #expect(failure.message == "try later")
        #expect(notes.withLock { $0 } == ["a begins where", "a fails: try later"])
    }

    // MARK: The context

    @Test func aCheckpointOfAnotherShapeIsAnError() throws {
        var run = StubRun()
        #expect(try JobContext(run: run, logger: Self.logger).checkpoint(as: Int.self) == nil)
        run.checkpoint = Array("[1]".utf8)
        let context = JobContext(run: run, logger: Self.logger)
        #expect(try context.checkpoint() == [1])
        let error = #expect(throws: CheckpointError.self) { try context.checkpoint(as: String.self) }
        #expect(error?.type == "String")
    }

    @Test func theLoggerNamesTheAttempt() {
        let logger = Logger(label: "tests") { StreamLogHandler.standardError(label: $0) }
        let context = JobContext(run: StubRun(), logger: logger)
        let metadata = ["job", "kind", "user", "attempt"].map { context.logger[metadataKey: $0]?.description }
        #expect(metadata == ["0197a000-0000-7000-8000-000000000001", "where", "u", "1"])
    }
}
