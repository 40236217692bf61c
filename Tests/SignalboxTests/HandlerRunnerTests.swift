import JobModel
import JobEngine
import Testing

@testable import Signalbox

@Suite struct HandlerRunnerTests {
    /// Says whether it runs on the handlers' threads.
    private struct Where: JobHandler {
        static let kind = "where"
        let timeout: Duration = .seconds(1)

        func run(_ input: Bool?, context: JobContext) async throws -> Bool {
            isOnTheirThreads
        }

        private var isOnTheirThreads: Bool {
            withUnsafeCurrentTask { task in
                task?.unownedTaskExecutor == HandlerThreads.shared.asUnownedTaskExecutor()
            }
        }
    }

    private struct StubRun: Run {
        let jobID = JobID("0197a000-0000-7000-8000-000000000001")!
        let kind = "where"
        let userID = "u"
        let queue = "default"
        let contentType = "application/json"
        let attempt = 1
        let maxAttempts = 1
        var payload: [UInt8] = []
        let checkpoint: [UInt8]? = nil
        let grace: Duration = .zero

        func report(stage: String, fraction: Double, message: String, step: Int, steps: Int) {}
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

    private func failure(_ runner: some JobRunner, payload: String = "") async throws -> RunFailure {
        var run = StubRun()
        run.payload = Array(payload.utf8)
        return try await #require(throws: RunFailure.self) { try await runner.run(run) }
    }

    @Test func whatIsWrongWithAPayloadIsForItsUser() async throws {
        let wrong = try await failure(HandlerRunner(handler: Where()), payload: "[1]")
        #expect(wrong.reason == "bad_input" && wrong.isPermanent && wrong.details == nil)
        #expect(wrong.message.hasPrefix("the payload is not what where takes: DecodingError"))
        let refused = try await failure(HandlerRunner(handler: Picky()), payload: "[1]")
        #expect(refused.reason == "bad_input" && refused.isPermanent)
        #expect(refused.message == "the payload is not what picky takes: an error of type Refusal")
        #expect(refused.details?.contains("/srv/secret") == true)
    }

    @Test func detailsOfAFailureAreNotItsMessage() async throws {
        let failure = try await failure(HandlerRunner(handler: Failing()))
        #expect(failure.message == "try later" && failure.details == "/srv/secret is full")
    }

    @Test func handlersRunOnThreadsThatTheyMayBlock() async throws {
        let result = try await HandlerRunner(handler: Where()).run(StubRun())
        #expect(String(decoding: result.data, as: UTF8.self) == "true")
    }
}
