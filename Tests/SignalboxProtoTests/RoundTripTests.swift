import FoundationEssentials
import JobModel
import SignalboxProto
import NIOCore
import Support
import Testing

/// What one side encodes the other decodes.
@Suite struct RoundTripTests {
    private func roundTrip<Message: RequestMessage & Equatable>(_ message: Message) throws {
        #expect(try Message.clean(message.encode()) == message)
    }

    private func roundTrip<Message: ResponseMessage & Equatable>(_ message: Message) throws {
        #expect(try Message.decode(message.encode()) == message)
    }

    @Test func enqueue() throws {
        let decoded = try EnqueueRequest.clean(EnqueueRequest(job: Samples.draft).encode())
        #expect(decoded.job?.described == Samples.draft.described)

        var delayed = Samples.draft
        delayed.runAt = nil
        delayed.delay = .milliseconds(1)
        let again = try EnqueueRequest.clean(EnqueueRequest(job: delayed).encode())
        #expect(again.job?.described == delayed.described)
    }

    @Test func anEmptySpecHasNothing() throws {
        let decoded = try EnqueueRequest.clean(EnqueueRequest(job: JobSpecDraft()).encode())
        #expect(decoded.job?.described == JobSpecDraft().described)
    }

    @Test func aJobIsRequired() throws {
        #expect(
            try EnqueueRequest.violations([]) == [
                FieldViolation(field: "job", reason: .required, description: "is required")
            ])
    }

    @Test func enqueueBatch() throws {
        var second = JobSpecDraft()
        second.kind = "b"
        let request = EnqueueBatchRequest(jobs: [Samples.draft, second])
        let decoded = try EnqueueBatchRequest.clean(request.encode())
        #expect(decoded.jobs.map(\.described) == request.jobs.map(\.described))
    }

    @Test func batchesHaveBounds() throws {
        #expect(try EnqueueBatchRequest.violations([]).map(\.field) == ["jobs"])
        let job = Wire.bytes(1, Wire.text(1, "k"))
        let most = try EnqueueBatchRequest.clean(
            Wire.buffer(Array(repeatElement(job, count: 10_000).joined())))
        #expect(most.jobs.count == 10_000)
        var violations: [FieldViolation] = []
        let over = try EnqueueBatchRequest.decode(
            Wire.buffer(Array(repeatElement(job, count: 10_001).joined())), into: &violations)
        #expect(over.jobs.isEmpty && violations.map(\.field) == ["jobs"])
    }

    @Test func requestsAboutJobs() throws {
        try roundTrip(GetJobRequest(jobID: "\(Samples.id)", includePayload: true))
        try roundTrip(CancelRequest(jobID: "a", note: "no longer needed", expectedSequence: 3))
        try roundTrip(RetryRequest(jobID: "a", expectedSequence: 4))
        try roundTrip(ListAttemptsRequest(jobID: "a", pageSize: 3, pageToken: "t"))
        try roundTrip(
            ListLogLinesRequest(
                jobID: "a", afterLine: 5, pageSize: 3, pageToken: "t", minLevel: .warning))
        try roundTrip(ListLogLinesRequest(jobID: "a"))
    }

    @Test func watchRequests() throws {
        var request = WatchRequest(
            jobs: [.init(jobID: "a"), .init(jobID: "b", afterSequence: 7, afterLogLine: 9)],
            includeLog: true, resumeToken: "t")
        request.filter = JobFilterMessage(userID: "u", queue: "q")
        for request in [request, WatchRequest()] {
            let decoded = try WatchRequest.clean(request.encode())
            #expect(String(describing: decoded) == String(describing: request))
        }
    }

    @Test func listJobs() throws {
        var filter = JobFilterMessage()
        filter.userID = "u"
        filter.queue = "q"
        filter.kinds = ["k", "l"]
        filter.states = [.pending, .cancelled]
        filter.labels = [("a", "1"), ("b", "")]
        filter.createdFrom = Samples.at(1)
        filter.createdTo = Samples.at(2, 5)
        var request = ListJobsRequest(pageSize: 7, pageToken: "t", filter: filter)
        var decoded = try ListJobsRequest.clean(request.encode())
        #expect(decoded.filter?.states == filter.states)
        // A set is described in any order.
        decoded.filter?.states = []
        request.filter?.states = []
        #expect(String(describing: decoded) == String(describing: request))
    }

    @Test func answersAboutJobs() throws {
        try roundTrip(
            EnqueueResponse(job: Samples.record(result: true), created: true, disposition: .created))
        try roundTrip(
            EnqueueBatchResponse(jobs: [
                .init(jobID: Samples.id, created: false, disposition: .sameRequest, sequence: 7)
            ]))
        try roundTrip(GetJobResponse(job: Samples.record, includePayload: true))
        try roundTrip(ListJobsResponse(jobs: [Samples.record(result: false)], nextPageToken: "t"))
        try roundTrip(JobResponse(job: Samples.record(result: true)))
    }

    @Test func partsAreLeftOut() throws {
        let whole = Samples.record
        var withoutPayload = whole
        withoutPayload.spec.payload = []
        let shown = try GetJobResponse.decode(GetJobResponse(job: whole, includePayload: false).encode())
        #expect(shown == GetJobResponse(job: withoutPayload, includePayload: false))
        let listed = try ListJobsResponse.decode(ListJobsResponse(jobs: [whole], nextPageToken: "").encode())
        #expect(listed.jobs == [Samples.record(result: false)])
        let watched = try WatchResponse.decode(WatchResponse(.snapshot(whole)).encode())
        #expect(watched == WatchResponse(.snapshot(Samples.record(result: true))))
    }

    @Test func watch() throws {
        try roundTrip(WatchResponse(.snapshot(Samples.record(result: true))))
        try roundTrip(WatchResponse(.progress(Samples.id, attempt: 2, Samples.progress)))
        try roundTrip(WatchResponse(.heartbeat(at: Samples.at(9))))
        try roundTrip(WatchResponse(.removed(Samples.id)))
        try roundTrip(WatchResponse(.opened(resumed: true, heartbeatInterval: .seconds(15))))
        try roundTrip(WatchResponse(.snapshotsComplete))
        try roundTrip(WatchResponse(.log(Samples.id, Samples.record.log)))
        try roundTrip(WatchResponse(.heartbeat(at: Samples.at(9)), resumeToken: "a token"))
        try roundTrip(WatchResponse(.other, resumeToken: "a token"))
        // A field 60 that this version does not know.
        #expect(try WatchResponse.decode(Wire.buffer(Wire.bytes(60, [1, 2]))).event == .other)
    }

    @Test(arguments: JobEventType.allCases)
    func eventTypes(_ type: JobEventType) throws {
        var event = Samples.event
        event.type = type
        event.state = type.to
        try roundTrip(WatchResponse(.lifecycle(event)))
    }

    @Test(arguments: JobState.allCases)
    func states(_ state: JobState) throws {
        var record = Samples.record(result: true)
        record.state = state
        try roundTrip(JobResponse(job: record))
    }

    @Test(arguments: [
        Attempt.Outcome.running, .succeeded, .failed, .timedOut, .interrupted, .released, .cancelled,
    ])
    func outcomes(_ outcome: Attempt.Outcome) throws {
        var record = Samples.record
        record.attempts[0].outcome = outcome
        try roundTrip(GetJobResponse(job: record, includePayload: true))
    }

    @Test func administration() throws {
        try roundTrip(GetQueueRequest(queue: "q", includeStats: true))
        try roundTrip(ListQueuesRequest(pageSize: 3, pageToken: "t", includeStats: true))
        try roundTrip(PauseQueueRequest(queue: "q"))
        try roundTrip(ResumeQueueRequest(queue: "q"))
        try roundTrip(ListNodesRequest(pageSize: 3, pageToken: "t"))
        let limit = UserLimitMessage(userID: "u", queue: "q", maxRunning: 0, isOverridden: true, running: 2)
        try roundTrip(
            UpdateUserLimitRequest(limit: limit, updateMask: FieldMask(paths: ["max_running", "x"])))
        try roundTrip(
            UpdateUserLimitRequest(limit: UserLimitMessage(userID: "u"), updateMask: FieldMask(paths: [])))
        try roundTrip(ListUserLimitsRequest(userID: "u", queue: "q", pageSize: 3, pageToken: "t"))
        try roundTrip(ListUserLimitsResponse(limits: [limit], nextPageToken: "t"))
        try roundTrip(GetUserLimitRequest(userID: "u", queue: "q"))
        try roundTrip(UserLimitResponse(limit: limit))
        var stats = QueueStats(queue: "q")
        stats.pending = 1
        stats.notDue = 2
        stats.running = 3
        stats.succeeded = 4
        stats.failed = 5
        stats.cancelled = 6
        stats.oldestPendingAge = .milliseconds(1001)
        stats.enqueuedPerSecond = 1.5
        stats.finishedPerSecond = 2.5
        stats.isCapped = true
        try roundTrip(
            ListQueuesResponse(
                queues: [
                    QueueRecord(name: "q", isPaused: true, stats: stats),
                    QueueRecord(name: "r", isPaused: false),
                ], nextPageToken: "t"))
        try roundTrip(
            ListNodesResponse(
                nodes: [
                    NodeRecord(
                        id: Samples.id.uuid, name: "n", version: "1", startedAt: Samples.at(1),
                        heartbeatAt: Samples.at(2), isAlive: true, concurrency: 8, kinds: ["a", "b"],
                        running: 1,
                        runningJobs: [Samples.id])
                ], nextPageToken: "t"))
    }

    @Test func serverInfo() throws {
        try roundTrip(GetServerInfoRequest())
        let features = ServerFeature.Stability.allCases.enumerated().map {
            ServerFeature(name: "f\($0.offset)", stability: $0.element, isEnabled: $0.offset == 1)
        }
        try roundTrip(
            GetServerInfoResponse(
                version: "1", apiPackages: ["signalbox.v1", "signalbox.v2"], features: features,
                limits: ServerLimits(
                    payloadBytesMax: 1 << 40, resultBytesMax: 2, batchJobsMax: 3, batchBytesMax: 4,
                    watchedJobsMax: 5, pageSizeMax: 6, checkpointBytesMax: 7, logLinesKept: 8, labelsMax: 9,
                    heartbeatInterval: .seconds(10), retention: .seconds(11), waitMax: .milliseconds(12),
                    eventResultBytesMax: 13),
                at: Samples.at(14, 15), node: "n",
                caller: CallerInfo(
                    name: "c", source: "token", scopes: ["admin", "x"], hasAllUsers: true,
                    users: ["a", "ué"])))
    }

    @Test(arguments: HealthCheckResponse.Status.allCases)
    func health(_ status: HealthCheckResponse.Status) throws {
        try roundTrip(HealthCheckRequest(service: "signalbox.v1.JobService"))
        try roundTrip(HealthCheckResponse(status: status))
    }

    @Test(
        arguments: [
            nil, .fileByFilename("f"), .fileContainingSymbol("s"),
            .fileContainingExtension(ExtensionRequest(containingType: "t", extensionNumber: 5)),
            .allExtensionNumbersOfType("t"), .listServices(""),
        ] as [ServerReflectionRequest.Question?])
    func reflectionQuestions(_ question: ServerReflectionRequest.Question?) throws {
        try roundTrip(ServerReflectionRequest(host: "h", question: question))
    }

    @Test(
        arguments: [
            nil, .fileDescriptorResponse(FileDescriptorResponse(fileDescriptorProto: [[1], [2, 3]])),
            .allExtensionNumbersResponse(
                ExtensionNumberResponse(baseTypeName: "t", extensionNumber: [1, -2])),
            .listServicesResponse(
                ListServiceResponse(service: [ServiceResponse(name: "a"), ServiceResponse(name: "b")])),
            .errorResponse(ErrorResponse(errorCode: 5, errorMessage: "no")),
        ] as [ServerReflectionResponse.Answer?])
    func reflectionAnswers(_ answer: ServerReflectionResponse.Answer?) throws {
        let request = ServerReflectionRequest(host: "h", question: .listServices("*"))
        try roundTrip(
            ServerReflectionResponse(validHost: "h", originalRequest: request, answer: answer))
        try roundTrip(ServerReflectionResponse(validHost: "", originalRequest: nil, answer: answer))
    }

    @Test func aLargePayload() throws {
        var draft = Samples.draft
        draft.payload = [UInt8](repeating: 7, count: 1 << 20)
        let decoded = try EnqueueRequest.clean(EnqueueRequest(job: draft).encode())
        #expect(decoded.job?.payload == draft.payload)
    }
}
