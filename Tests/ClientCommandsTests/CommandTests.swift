import ArgumentParser
import JobModel
import SignalboxClient
import SignalboxProto
import Logging
import NIOCore
import GRPC
import Settings
import Support
import Testing

@testable import ClientCommands

/// The commands against a gRPC server that answers as the test says.
@Suite struct CommandTests {
    private func serving(
        _ methods: [Method], _ body: (_ address: String) async throws -> Void
    ) async throws {
        var configuration = ServerConfiguration()
        configuration.addresses = [.init(host: "127.0.0.1", port: 0)]
        configuration.eventLoopThreads = 1
        let server = Server(
            configuration: configuration, methods: methods,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try await server.start()
        do {
            try await body("127.0.0.1:\(try #require(server.port))")
        } catch {
            await server.shutdown(grace: .zero)
            throw error
        }
        await server.shutdown(grace: .zero)
    }

    private func exitCode(_ arguments: [String], of command: any AsyncParsableCommand.Type) async -> Int32 {
        do {
            var command = try command.parse(arguments)
            try await command.run()
            return 0
        } catch {
            return command.exitCode(for: error).rawValue
        }
    }

    @Test(arguments: [
        (HealthCheckResponse.Status.serving, Int32(0)), (.notServing, 4), (.unknown, 4), (.serviceUnknown, 3),
    ]) func health(status: HealthCheckResponse.Status, code: Int32) async throws {
        let method = Method.unary(HealthMethod.check) { _, _ in
            HealthCheckResponse(status: status).encode()
        }
        try await serving([method]) { address in
            #expect(await exitCode(["--server", address], of: HealthCommand.self) == code)
        }
    }

    @Test func noServer() async {
        // Nobody listens there, and no test is given that port.
        let address = "127.0.0.1:1"
        #expect(await exitCode(["--server", address], of: HealthCommand.self) == 4)
        #expect(
            await exitCode([Sample.id.description, "--server", address], of: WatchCommand.self) == 4)
    }

    @Test(arguments: [
        (Status.Code.notFound, Int32(3)), (.deadlineExceeded, 4), (.alreadyExists, 5), (.invalidArgument, 5),
    ]) func whatTheServerRefuses(code: Status.Code, expected: Int32) async throws {
        let method = Method.unary(JobServiceMethod.cancel) { _, _ in throw Status(code, "no") }
        try await serving([method]) { address in
            let id = Sample.id.description
            #expect(await exitCode([id, "--server", address], of: CancelCommand.self) == expected)
        }
    }

    @Test(arguments: [["--server", "nowhere"], ["--timeout", "0s"]]) func wrongSettings(options: [String])
        async
    {
        #expect(await exitCode(options, of: HealthCommand.self) == 64)
    }

    @Test func anAnswerThatIsNone() async throws {
        let method = Method.unary(JobServiceMethod.getJob) { _, _ in ByteBuffer(bytes: [0xFF, 0xFF]) }
        try await serving([method]) { address in
            let id = Sample.id.description
            #expect(await exitCode([id, "--server", address], of: GetCommand.self) == 5)
        }
    }

    @Test func aPageThatNamesItselfEndsTheList() async throws {
        let method = Method.unary(AdminServiceMethod.listNodes) { _, _ in
            ListNodesResponse(nodes: [], nextPageToken: "again").encode()
        }
        try await serving([method]) { address in
            #expect(await exitCode(["--server", address], of: NodesCommand.self) == 5)
        }
    }

    @Test func pagesUpToTheLimit() async throws {
        let (requests, continuation) = AsyncStream<ListJobsRequest>.makeStream()
        let method = Method.unary(JobServiceMethod.listJobs) { bytes, _ in
            var violations: [FieldViolation] = []
            let request = try ListJobsRequest.decode(bytes, into: &violations)
            continuation.yield(request)
            // Pages may be short.
            let count = request.pageToken.isEmpty ? 90 : request.pageSize
            let jobs = (0..<count).map { _ in Sample.job() }
            return ListJobsResponse(jobs: jobs, nextPageToken: "\(request.pageToken)n").encode()
        }
        try await serving([method]) { address in
            let arguments = ["--server", address, "--user", "ada", "--state", "running", "--limit", "200"]
            #expect(await exitCode(arguments, of: ListCommand.self) == 0)
        }
        continuation.finish()
        var sizes: [Int] = []
        for await request in requests {
            sizes.append(request.pageSize)
            #expect(request.filter?.userID == "ada" && request.filter?.states == [.running])
        }
        #expect(sizes == [100, 100, 10])
    }

    @Test(arguments: [(JobEventType.succeeded, false), (.failed, true)])
    func aWatchThatIsCutGoesOn(type: JobEventType, fails: Bool) async throws {
        let method = Method.serverStreaming(JobServiceMethod.watch) { bytes, _, writer in
            var violations: [FieldViolation] = []
            let watched = try WatchRequest.decode(bytes, into: &violations).jobs[0]
            switch watched.afterSequence {
            case 0:
                try await writer.write(
                    WatchResponse(.snapshot(Sample.job(.pending, sequence: 1))).encode())
                let started = Sample.event(.started, sequence: 2)
                try await writer.write(WatchResponse(.lifecycle(started)).encode())
                throw Status(.unavailable, "shutting down")
            case 2:
                let ended = Sample.event(type, sequence: 3)
                try await writer.write(WatchResponse(.lifecycle(ended)).encode())
            default:
                throw Status(.internalError, "asked after \(watched.afterSequence)")
            }
        }
        let (output, continuation) = AsyncStream<String>.makeStream()
        try await serving([method]) { address in
            let target = try ClientSettings.resolve(flags: ["server": address], environment: [:])
            var watcher = Watcher(
                target: target, session: WatchSession(.jobs([Sample.id])),
                printer: WatchPrinter(.lines) { continuation.yield($0) })
            do {
                try await watcher.run()
                #expect(!fails)
            } catch let code as ExitCode {
                #expect(fails && code == .jobFailed)
            }
        }
        continuation.finish()
        var lines: [String] = []
        for await line in output { lines.append(line) }
        #expect(
            lines == [
                "\(Sample.id) PENDING test.sleep\n", "\(Sample.id) STARTED attempt 1 on node-a\n",
                "\(Sample.id) \(type.word) attempt 1\n",
            ])
    }

    @Test func aWatchOfNoJobIsNotTriedAgain() async throws {
        let method = Method.serverStreaming(JobServiceMethod.watch) { _, _, _ in
            throw Status(.notFound, "no such job")
        }
        try await serving([method]) { address in
            let arguments = [Sample.id.description, "--server", address]
            #expect(await exitCode(arguments, of: WatchCommand.self) == 3)
        }
    }

    @Test func afterTheLastEventTheJobIsLookedUp() async throws {
        let watch = Method.serverStreaming(JobServiceMethod.watch) { _, _, _ in }
        let get = Method.unary(JobServiceMethod.getJob) { _, _ in
            GetJobResponse(job: Sample.job(.cancelled, sequence: 3), includePayload: false).encode()
        }
        try await serving([watch, get]) { address in
            let arguments = [Sample.id.description, "--after", "3", "--server", address]
            #expect(await exitCode(arguments, of: WatchCommand.self) == 1)
        }
    }
}
