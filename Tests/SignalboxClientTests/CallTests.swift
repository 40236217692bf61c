import Foundation
import GRPC
import JobModel
import NIOCore
import SignalboxJobs
import SignalboxProto
import Support
import Synchronization
import Testing

@testable import SignalboxClient

/// Calls of the client against a server that answers as the test says.
@Suite(.timeLimit(.minutes(2))) struct CallTests {
    private func client(
        _ port: Int, _ change: (inout SignalboxClient.Configuration) -> Void = { _ in }
    ) throws -> SignalboxClient {
        var configuration = SignalboxClient.Configuration(port: port)
        configuration.retry = .init(initialDelay: .milliseconds(1), maxDelay: .milliseconds(1))
        // The machine may be slow; the test's own limit ends it.
        configuration.timeout = .seconds(600)
        change(&configuration)
        return try SignalboxClient(configuration)
    }

    private func error(_ body: () async throws -> Void) async throws -> SignalboxError {
        try await #require(throws: SignalboxError.self) { try await body() }
    }

    private static func unavailable(retryAfter delay: Duration? = nil) -> Status {
        let details = StatusDetails(code: 14, message: "", retryDelay: delay)
        return Status(.unavailable, "no database", details: details.encode())
    }

    // MARK: Requests and answers

    @Test func aRequestArrivesWhole() async throws {
        let drafts = Mutex<[JobSpecDraft]>([])
        let method = Method.unary(JobServiceMethod.enqueue) { bytes, _ in
            var violations: [FieldViolation] = []
            let draft = try EnqueueRequest.decode(bytes, into: &violations).job
            drafts.withLock { $0 += [draft].compactMap(\.self) }
            return EnqueueResponse(
                job: Sample.job(.pending, sequence: 1), created: false, disposition: .sameRequest
            ).encode()
        }
        var request = try JobRequest(kind: "k", userID: "ada", input: ["n": 1])
        request.queue = "q"
        request.idempotencyKey = "once"
        request.priority = -3
        request.due = .at(Date(timeIntervalSince1970: 1.5))
        request.maxAttempts = 4
        request.retryPolicy = .init(initialDelay: .seconds(1), factor: 3, maxDelay: .seconds(9), jitter: 0.5)
        request.timeout = .seconds(20)
        request.softTimeout = .seconds(10)
        request.labels = ["a": "b"]
        try await FakeServer.with([method]) { [request] port in
            let enqueued = try await client(port).enqueue(request)
            #expect(enqueued.job.id == Sample.id.uuid && !enqueued.isNew)
        }
        let draft = try #require(drafts.withLock { $0.first })
        #expect(draft.kind == "k" && draft.userID == "ada" && draft.queue == "q")
        #expect(String(decoding: draft.payload, as: UTF8.self) == #"{"n":1}"#)
        #expect(
            draft.contentType == "application/json" && draft.jobID == "" && draft.idempotencyKey == "once")
        #expect(draft.priority == -3 && draft.runAt == Timestamp(microseconds: 1_500_000))
        #expect(draft.maxAttempts == 4 && draft.retryInitialDelay == .seconds(1) && draft.retryFactor == 3)
        #expect(draft.retryMaxDelay == .seconds(9) && draft.retryJitter == 0.5)
        #expect(draft.timeout == .seconds(20) && draft.softTimeout == .seconds(10))
        #expect(draft.labels.map(\.key) == ["a"] && draft.labels.map(\.value) == ["b"])
    }

    @Test func aListGoesThroughItsPages() async throws {
        let tokens = Mutex<[ExactText]>([])
        let method = Method.unary(JobServiceMethod.listJobs) { bytes, _ in
            var violations: [FieldViolation] = []
            let request = try ListJobsRequest.decode(bytes, into: &violations)
            #expect(
                request.filter?.userID == "ada" && request.filter?.states == [.failed]
                    && request.pageSize == 2)
            tokens.withLock { $0.append(request.pageToken) }
            // Pages may be empty.
            let (count, next): (Int, ExactText) =
                switch request.pageToken {
                case "": (2, "a")
                case "a": (0, "b")
                default: (1, "")
                }
            return ListJobsResponse(
                jobs: (0..<count).map { _ in Sample.job() }, nextPageToken: next
            ).encode()
        }
        try await FakeServer.with([method]) { port async throws in
            var filter = SignalboxJobs.JobFilter()
            filter.userID = "ada"
            filter.states = [.failed]
            var count = 0
            for try await job in try client(port).jobs(filter, pageSize: 2) {
                #expect(job.id == Sample.id.uuid)
                count += 1
            }
            #expect(count == 3)
        }
        #expect(tokens.withLock { $0 } == ["", "a", "b"])
    }

    @Test func aPageThatNamesItselfEndsTheList() async throws {
        let method = Method.unary(JobServiceMethod.listJobs) { _, _ in
            ListJobsResponse(jobs: [Sample.job()], nextPageToken: "again").encode()
        }
        try await FakeServer.with([method]) { port async throws in
            let jobs = try client(port).jobs()
            let error = try await error { for try await _ in jobs {} }
            #expect(error.code == .internalError)
        }
    }

    /// On the wire 0 stands for any sequence.
    @Test func anExpectedSequenceOfZeroIsRefused() async throws {
        let client = try client(1)
        for sequence in [0, -1] {
            let errors = [
                try await error { _ = try await client.cancel(UUID(), note: "", expectedSequence: sequence) },
                try await error { _ = try await client.retry(UUID(), expectedSequence: sequence) },
            ]
            #expect(errors.allSatisfy { $0.code == .invalidArgument })
            #expect(errors.allSatisfy { $0.violations.map(\.field) == ["expected_sequence"] })
        }
    }

    @Test func serverInfo() async throws {
        let method = Method.unary(InfoServiceMethod.getServerInfo) { _, _ in
            GetServerInfoResponse(
                version: "1.2", apiPackages: ["signalbox.v1"],
                features: [
                    ServerFeature(name: "graphs", stability: .experimental, isEnabled: true),
                    ServerFeature(name: "http", stability: nil, isEnabled: false),
                ],
                limits: ServerLimits(
                    payloadBytesMax: 1, resultBytesMax: 2, batchJobsMax: 3, batchBytesMax: 4,
                    watchedJobsMax: 5, pageSizeMax: 6, checkpointBytesMax: 7, logLinesKept: 8, labelsMax: 9,
                    heartbeatInterval: .seconds(10), retention: .seconds(11), waitMax: nil,
                    eventResultBytesMax: 13),
                at: Sample.start, node: "",
                caller: CallerInfo(
                    name: "c", source: "token", scopes: ["jobs.read"], hasAllUsers: false, users: ["ada"])
            ).encode()
        }
        try await FakeServer.with([method]) { port async throws in
            let info = try await client(port).serverInfo()
            #expect(info.version == "1.2" && info.apiPackages == ["signalbox.v1"] && info.node == nil)
            #expect(info.features.map(\.name) == ["graphs", "http"])
            #expect(info.features.first?.stability == .experimental)
            #expect(info.features.last?.stability == nil)
            #expect(info.features.map(\.isEnabled) == [true, false])
            #expect(info.time == Date(timeIntervalSince1970: 1_720_000_800))
            #expect(info.caller.name == "c" && info.caller.source == "token")
            #expect(info.caller.scopes == ["jobs.read"])
            #expect(!info.caller.hasAllUsers && info.caller.users == ["ada"])
            let limits = info.limits
            let numbers: [Int] = [
                limits.maxPayloadBytes, limits.maxResultBytes, limits.maxBatchJobs, limits.maxBatchBytes,
                limits.maxWatchedJobs, limits.maxPageSize, limits.maxCheckpointBytes, limits.keptLogLines,
                limits.maxLabels, limits.maxEventResultBytes,
            ]
            #expect(numbers == [1, 2, 3, 4, 5, 6, 7, 8, 9, 13])
            #expect(limits.heartbeatInterval == .seconds(10) && limits.retention == .seconds(11))
            #expect(limits.maxWait == nil)
        }
    }

    @Test func anErrorHasItsDetails() async throws {
        let method = Method.unary(JobServiceMethod.getJob) { _, _ in
            let details = StatusDetails(
                code: 3, message: "",
                errorInfo: .init(reason: "FIELDS_INVALID", metadata: ["violations": "1"]),
                badRequest: [.init(field: "job_id", reason: "MALFORMED", description: "is wrong")],
                retryDelay: .seconds(2), quota: .init(subject: "user:ada", description: ""),
                resource: .init(type: "signalbox.v1.Job", name: "\(Sample.id)", description: ""))
            throw Status(.invalidArgument, "no", details: details.encode())
        }
        try await FakeServer.with([method]) { port async throws in
            let error = try await error { _ = try await client(port).job(UUID()) }
            #expect(error.code == .invalidArgument && error.message == "no")
            #expect(
                error.violations
                    == [.init(field: "job_id", reason: "MALFORMED", description: "is wrong")])
            #expect(error.reason == "FIELDS_INVALID" && error.metadata == ["violations": "1"])
            #expect(error.retryDelay == .seconds(2) && error.quota == "user:ada")
            #expect(error.jobID == Sample.id.uuid)
            #expect("\(error)" == "invalidArgument: no; job_id: is wrong")
        }
    }

    @Test func anAnswerThatMakesNoSenseIsAnError() async throws {
        let method = Method.unary(JobServiceMethod.getJob) { _, _ in ByteBuffer(bytes: [0xFF, 0xFF]) }
        try await FakeServer.with([method]) { port async throws in
            let error = try await error { _ = try await client(port).job(UUID()) }
            #expect(error.code == .internalError)
        }
    }

    // MARK: Trying again

    @Test func whatIsUnavailableIsTriedAgainWithTheSameID() async throws {
        let ids = Mutex<[ExactText]>([])
        let method = Method.unary(JobServiceMethod.enqueue) { bytes, _ in
            var violations: [FieldViolation] = []
            let id = try EnqueueRequest.decode(bytes, into: &violations).job?.jobID ?? ""
            let count = ids.withLock { ids in
                ids.append(id)
                return ids.count
            }
            if count < 3 { throw Self.unavailable() }
            return EnqueueResponse(
                job: Sample.job(.pending, sequence: 1), created: false, disposition: .sameRequest
            ).encode()
        }
        try await FakeServer.with([method]) { port async throws in
            let enqueued = try await client(port).enqueue("k", userID: "ada", input: 1)
            // The job is of an earlier try of this call.
            #expect(enqueued.isNew)
        }
        let sent = ids.withLock { $0 }
        #expect(sent.count == 3 && Set(sent).count == 1 && JobID(sent[0].text) != nil)
    }

    @Test(arguments: [true, false]) func whatIsNotSafeIsTriedOnce(_ isRetry: Bool) async throws {
        let count = Mutex(0)
        let answer: @Sendable (ByteBuffer, ServerContext) async throws -> ByteBuffer = { _, _ in
            count.withLock { $0 += 1 }
            throw Self.unavailable()
        }
        let methods = [
            Method.unary(JobServiceMethod.retry, answer), Method.unary(JobServiceMethod.cancel, answer),
        ]
        try await FakeServer.with(methods) { port async throws in
            let client = try client(port) { if !isRetry { $0.retry = nil } }
            let error = try await error {
                _ = isRetry ? try await client.retry(UUID()) : try await client.cancel(UUID())
            }
            #expect(error.code == .unavailable)
        }
        #expect(count.withLock { $0 } == 1)
    }

    @Test func delaysKeepToTheServerAndTheDeadline() {
        let now = ContinuousClock.now
        let retry = SignalboxClient.Retry(initialDelay: .seconds(1), maxDelay: .seconds(3))
        func delays(_ status: Status, deadline: Duration) -> [Duration?] {
            var retry = CallRetry(retry, deadline: now + deadline)
            return (0..<3).map { _ in retry.delay(after: status, now: now, random: 0) }
        }
        let unavailable = Status(.unavailable)
        #expect(delays(unavailable, deadline: .seconds(9)) == [.seconds(0.5), .seconds(1), .seconds(1.5)])
        #expect(delays(unavailable, deadline: .seconds(1)) == [.seconds(0.5), nil, nil])
        let asked = Self.unavailable(retryAfter: .seconds(5))
        #expect(delays(asked, deadline: .seconds(9)) == [.seconds(5), .seconds(5), .seconds(5)])
        // More than a minute is not waited for, however long the server asks.
        let hour = Self.unavailable(retryAfter: .seconds(3600))
        #expect(delays(hour, deadline: .seconds(7200))[0] == .seconds(60))
        #expect(delays(Status(.resourceExhausted), deadline: .seconds(9)) == [nil, nil, nil])
    }

    @Test func aCallEndsAtItsDeadline() async throws {
        let method = Method.unary(JobServiceMethod.getJob) { _, _ in
            try await FakeServer.waitForCancellation()
        }
        try await FakeServer.with([method]) { port async throws in
            let client = try client(port).with(timeout: .milliseconds(50))
            #expect(try await error { _ = try await client.job(UUID()) }.code == .deadlineExceeded)
        }
    }

    @Test func aTokenThatDoesNotComeEndsTheCallAtItsDeadline() async throws {
        try await FakeServer.with([]) { port async throws in
            let client = try client(port) {
                $0.token = .init(provide: {
                    try await FakeServer.waitForCancellation()
                })
                $0.timeout = .milliseconds(50)
            }
            #expect(try await error { _ = try await client.job(UUID()) }.code == .deadlineExceeded)
        }
    }

    @Test func aTaskThatIsCancelledWaitsNoLonger() async throws {
        let (starts, start) = AsyncStream<Void>.makeStream()
        let method = Method.unary(JobServiceMethod.getJob) { _, _ in
            start.yield()
            try await FakeServer.waitForCancellation()
        }
        try await FakeServer.with([method]) { port async throws in
            let client = try client(port)
            let call = Task { try await client.job(UUID()) }
            for await _ in starts { break }
            call.cancel()
            await #expect(throws: CancellationError.self) { try await call.value }
        }
    }

    // MARK: Connections

    @Test func aLostConnectionIsMadeAgain() async throws {
        let method = Method.unary(JobServiceMethod.getJob) { _, _ in
            GetJobResponse(job: Sample.job(), includePayload: false).encode()
        }
        let before = Mutex<(client: SignalboxClient, port: Int)?>(nil)
        try await FakeServer.with([method]) { port async throws in
            let client = try self.client(port)
            #expect(try await client.job(UUID()).id == Sample.id.uuid)
            before.withLock { $0 = (client, port) }
        }
        let (client, port) = try #require(before.withLock { $0 })
        let error = try await error { _ = try await client.with(timeout: .milliseconds(50)).job(UUID()) }
        #expect([.unavailable, .deadlineExceeded].contains(error.code))
        try await FakeServer.with([method], port: port) { _ async throws in
            #expect(try await client.job(UUID()).id == Sample.id.uuid)
        }
    }

    private static let getJob = Method.unary(JobServiceMethod.getJob) { _, _ in
        GetJobResponse(job: Sample.job(), includePayload: false).encode()
    }

    /// A connector, and what calls through it.
    private func connector(_ port: Int) -> (Connector, ClientCaller) {
        var configuration = SignalboxClient.Configuration(port: port)
        // A call that fails is seen.
        configuration.retry = nil
        let connector = Connector(configuration)
        let caller = ClientCaller(connector: connector, configuration: configuration, timeout: .seconds(600))
        return (connector, caller)
    }

    private func get(_ caller: ClientCaller) async throws {
        let request = GetJobRequest(jobID: "\(Sample.id)")
        _ = try await caller.call(JobServiceMethod.getJob, request, as: GetJobResponse.self)
    }

    /// It was lost between two calls, as when the server has restarted: the next call does not find that out.
    @Test func aConnectionThatWasLostIsNotUsedAgain() async throws {
        try await FakeServer.with([Self.getJob]) { port async throws in
            let (connector, caller) = connector(port)
            try await get(caller)
            let first = try await connector.connection()
            #expect(try await connector.connection() === first)
            await first.client.close()
            try await get(caller)
            #expect(try await connector.connection() !== first)
        }
    }

    /// The server is busy: a new connection would change nothing.
    @Test func aConnectionThatAnswersUnavailableIsKept() async throws {
        let count = Mutex(0)
        let busy = Method.unary(JobServiceMethod.getJob) { _, _ in
            count.withLock { $0 += 1 }
            throw Self.unavailable()
        }
        let watch = Method.serverStreaming(JobServiceMethod.watch) { _, _, _ in
            count.withLock { $0 += 1 }
            throw Self.unavailable()
        }
        try await FakeServer.with([busy, watch]) { port async throws in
            let (connector, caller) = connector(port)
            let first = try await connector.connection()
            await #expect(throws: Status.self) { try await get(caller) }
            #expect(try await connector.connection() === first)
            let updates = RemoteWatch(.job(Sample.id.uuid), caller)
            await #expect(throws: SignalboxError.self) { try await updates.next() }
            #expect(try await connector.connection() === first)
        }
        #expect(count.withLock { $0 } == 2)
    }

    /// A late word about it does not concern the one that was made since.
    @Test func aConnectionThatIsClosedIsGivenUp() async throws {
        try await FakeServer.with([Self.getJob]) { port async throws in
            let (connector, caller) = connector(port)
            var first: Connection? = try await connector.connection()
            weak var kept = first
            try await first?.client.close()
            if let first { await connector.giveUpIfClosed(first) }
            let closed = try await connector.connection()
            #expect(first !== closed)
            if let first { await connector.giveUpIfClosed(first) }
            #expect(try await connector.connection() === closed)
            first = nil
            #expect(kept == nil)
            try await get(caller)
        }
    }

    @Test func aClosedClientMakesNoCalls() async throws {
        let method = Method.unary(JobServiceMethod.getJob) { _, _ in
            GetJobResponse(job: Sample.job(), includePayload: false).encode()
        }
        try await FakeServer.with([method]) { port async throws in
            let client = try client(port)
            _ = try await client.job(UUID())
            await client.close()
            let error = try await error { _ = try await client.job(UUID()) }
            #expect(error.code == .unavailable && error.message == "the client is closed")
        }
    }

    // MARK: Tokens

    @Test func aTokenIsAskedForBeforeEachCall() async throws {
        let seen = Mutex<[String?]>([])
        let method = Method.unary(JobServiceMethod.getJob) { _, context in
            let metadata = context.metadata
            seen.withLock { $0.append(metadata["authorization"]) }
            return GetJobResponse(job: Sample.job(), includePayload: false).encode()
        }
        let count = Mutex(0)
        try await FakeServer.with([method]) { port async throws in
            _ = try await client(port) { $0.token = .init("fixed") }.job(UUID())
            let client = try client(port) {
                $0.token = .init(provide: {
                    count.withLock { count in
                        count += 1
                        return "t\(count)"
                    }
                })
            }
            _ = try await client.job(UUID())
            _ = try await client.job(UUID())
            let wrong = try self.client(port) { $0.token = .init("a b") }
            #expect(try await error { _ = try await wrong.job(UUID()) }.code == .invalidArgument)
        }
        #expect(seen.withLock { $0 } == ["Bearer fixed", "Bearer t1", "Bearer t2"])
    }

    @Test(arguments: ["192.0.2.1", "jobs.example.com", "127.0.0.1.example.com"])
    func aTokenIsNotSentInTheClear(_ host: String) throws {
        var configuration = SignalboxClient.Configuration(host: host, port: 7600)
        configuration.token = .init("secret")
        let error = #expect(throws: SignalboxError.self) { try SignalboxClient(configuration) }
        #expect(error?.code == .invalidArgument)
        #expect(error?.message.hasPrefix("the token is not sent") == true)
        configuration.isInsecure = true
        _ = try SignalboxClient(configuration)
        configuration.tls = .init()
        #expect(throws: SignalboxError.self) { try SignalboxClient(configuration) }
        configuration.isInsecure = false
        _ = try SignalboxClient(configuration)
        configuration.tls?.certificateFile = "/c"
        #expect(throws: SignalboxError.self) { try SignalboxClient(configuration) }
    }

    @Test(arguments: ["127.0.0.1", "::1", "localhost"]) func onThisMachineATokenMayBeInTheClear(
        _ host: String
    ) throws {
        var configuration = SignalboxClient.Configuration(host: host, port: 7600)
        configuration.token = .init("secret")
        _ = try SignalboxClient(configuration)
    }

    @Test(arguments: [("", 7600), ("a b", 7600), ("h", 0), ("h", 70_000), ("a:b:c d", 1)])
    func whatNamesNoServerIsRefused(_ host: String, _ port: Int) {
        #expect(throws: SignalboxError.self) { try SignalboxClient(.init(host: host, port: port)) }
    }

    @Test func noDescriptionShowsTheToken() {
        var configuration = SignalboxClient.Configuration()
        configuration.token = .init("secret")
        var dumped = ""
        dump(configuration, to: &dumped)
        #expect(!dumped.contains("secret") && !"\(configuration)".contains("secret"))
    }

    @Test func aFileOfTLSThatIsMissingIsNamed() async throws {
        let client = try client(7600) { $0.tls = .init(authorityFile: "/nonexistent/ca.pem") }
        let error = try await error { _ = try await client.job(UUID()) }
        #expect(error.code == .invalidArgument && error.message.contains("/nonexistent/ca.pem"))
    }
}
