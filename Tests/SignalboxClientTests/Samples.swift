import GRPC
import JobModel
import Logging
import NIOCore
import SignalboxProto
import Support
import Testing

/// Jobs and events as a server sends them.
enum Sample {
    static let id = JobID("0190a000-0000-7000-8000-0000deadbeef")!
    static let other = JobID("0190a000-0000-7000-8000-0000cafecafe")!
    /// 2024-07-03T10:00:00Z
    static let start = Timestamp(microseconds: 1_720_000_800_000_000)

    static func job(
        _ state: JobState = .running, id: JobID = id, sequence: Int64 = 2, progress: Progress? = nil,
        result: JobResult? = nil
    ) -> JobRecord {
        JobRecord(
            number: 0, id: id, spec: JobSpec(kind: "test.sleep", userID: "ada", due: .at(start)),
            state: state, sequence: sequence, createdAt: start, dueAt: start,
            finishedAt: state.isFinal ? start.advanced(by: .milliseconds(12_500)) : nil,
            attempt: state == .pending ? 0 : 1, progress: progress, result: result,
            error: state == .failed
                ? JobError(reason: "", message: "no such voice", cause: .handlerPermanent) : nil)
    }

    static func event(_ type: JobEventType, sequence: Int64, id: JobID = id) -> JobEvent {
        JobEvent(
            jobID: id, sequence: sequence, type: type, at: start.advanced(by: .seconds(sequence)), attempt: 1,
            node: "node-a", kind: "test.sleep", userID: "ada", queue: "default")
    }

    static func progress(_ fraction: Double, message: String = "Speaking") -> Progress {
        Progress(
            stage: "synthesis", fraction: fraction, message: message, done: 3, total: 7, updatedAt: start)
    }
}

/// A gRPC server that answers as the test says.
enum FakeServer {
    /// Waits until the task is cancelled.
    static func waitForCancellation() async throws -> Never {
        let (never, continuation) = AsyncStream<Never>.makeStream()
        for await _ in never {}
        continuation.finish()
        throw CancellationError()
    }

    /// - Parameter port: 0: any free one.
    static func with(_ methods: [Method], port: Int = 0, _ body: (_ port: Int) async throws -> Void)
        async throws
    {
        var configuration = ServerConfiguration()
        configuration.addresses = [.init(host: "127.0.0.1", port: port)]
        configuration.eventLoopThreads = 1
        let server = Server(
            configuration: configuration, methods: methods,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try await server.start()
        let result: Result<Void, any Error>
        do {
            result = .success(try await body(try #require(server.port)))
        } catch {
            result = .failure(error)
        }
        await server.shutdown(grace: .zero)
        try result.get()
    }
}
