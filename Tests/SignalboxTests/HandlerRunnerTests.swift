import JobCore
import JobWorkers
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
        let payload: [UInt8] = []
        let checkpoint: [UInt8]? = nil
        let grace: Duration = .zero

        func report(stage: String, fraction: Double, message: String, step: Int, steps: Int) {}
        func log(_ level: LogLine.Level, _ message: String) {}
        func save(checkpoint: [UInt8]) async throws {}
        func softTimeout() async throws {}
        func abandoned() async throws {}
    }

    @Test func handlersRunOnThreadsThatTheyMayBlock() async throws {
        let result = try await HandlerRunner(handler: Where()).run(StubRun())
        #expect(String(decoding: result.data, as: UTF8.self) == "true")
    }
}
