import GRPC
import JobModel
import JobService
import NIOCore
import SignalboxProto
import Support
import Testing

@testable import SignalboxAPI

/// The lists as callers see them: which fields are named, and how large responses are.
@Suite(.timeLimit(.minutes(2))) struct ListTests {
    private typealias Path = APIBench.Path

    /// What gRPC clients accept unless they are configured otherwise.
    private static let responseBytesMax = 4 << 20

    private func violations(_ status: Status) throws -> [String] {
        try status.decodedDetails.badRequest.map(\.field)
    }

    @Test func kindsOfAFilter() async throws {
        try await APIBench.with { bench in
            let job = try await bench.enqueue("a", as: "a")
            func list(_ kinds: [ExactText]) -> ListJobsRequest {
                ListJobsRequest(filter: JobFilterMessage(kinds: kinds))
            }
            for (kinds, isFound) in [(["k"], true), (["x", "k"], true), (["x", "y"], false), ([], true)] {
                let page = try await bench.call(
                    Path.job + "ListJobs", list(kinds.map { ExactText($0) }), as: "a", ListJobsResponse.self)
                #expect(page.jobs.map(\.id) == (isFound ? [job.id] : []))
            }
            let many = (0...32).map { ExactText("k\($0)") }
            let tooMany = try await bench.status(Path.job + "ListJobs", list(many), as: "a")
            #expect(tooMany.code == .invalidArgument)
            #expect(try violations(tooMany) == ["filter.kinds"])
            #expect(try await bench.status(Path.job + "ListJobs", list(many.dropLast()), as: "a").code == .ok)
        }
    }

    @Test func wrongFieldsOfAFilter() async throws {
        try await APIBench.with { bench in
            let filter = JobFilterMessage(
                userID: "a\u{1}", queue: "a b", kinds: ["k", ""], labels: [(key: "signalbox.a", value: "")])
            let status = try await bench.status(
                Path.job + "ListJobs", ListJobsRequest(pageSize: -1, filter: filter), as: "a")
            #expect(
                try violations(status) == [
                    "filter.user_id", "filter.queue", "filter.kinds[1]", "filter.labels", "page_size",
                ])
            // A larger page than allowed is cut.
            #expect(
                try await bench.status(
                    Path.job + "ListJobs", ListJobsRequest(pageSize: .max), as: "a"
                ).code == .ok)
            let token = try await bench.status(
                Path.job + "ListJobs", ListJobsRequest(pageToken: "x"), as: "a")
            #expect(try token.decodedDetails.errorInfo?.reason == "PAGE_TOKEN_INVALID")
        }
    }

    @Test func historyOfAJob() async throws {
        try await APIBench.with { bench in
            let id = ExactText("\(try await bench.enqueue("a", as: "a").id)")
            let requests: [(String, any RequestMessage)] = [
                ("ListAttempts", ListAttemptsRequest(jobID: id)),
                ("ListLogLines", ListLogLinesRequest(jobID: id, minLevel: .info)),
            ]
            for (method, request) in requests {
                #expect(try await bench.status(Path.job + method, request, as: "a").code == .ok)
                let other = try await bench.status(Path.job + method, request, as: "b")
                #expect(other.code == .notFound)
                #expect(try other.decodedDetails.errorInfo?.reason == "JOB_NOT_FOUND")
            }
            let wrong = try await bench.status(
                Path.job + "ListAttempts", ListAttemptsRequest(jobID: "x", pageSize: -1), as: "a")
            #expect(try violations(wrong) == ["job_id"])
        }
    }

    @Test func queuesThatDoNotExist() async throws {
        try await APIBench.with { bench in
            let status = try await bench.status(
                Path.admin + "GetQueue", GetQueueRequest(queue: "q"), as: "root")
            let details = try status.decodedDetails
            #expect(status.code == .notFound && details.errorInfo?.reason == "QUEUE_NOT_FOUND")
            #expect(details.resource?.type == "signalbox.v1.Queue" && details.resource?.name == "q")
            let paused = try await bench.call(
                Path.admin + "PauseQueue", PauseQueueRequest(queue: "q"), as: "root", QueueResponse.self)
            #expect(paused.queue == QueueRecord(name: "q", isPaused: true))
        }
    }

    @Test func masksOfALimit() async throws {
        try await APIBench.with { bench in
            func update(_ limit: UserLimitMessage, _ mask: [ExactText]?) async throws -> Status {
                try await bench.status(
                    Path.admin + "UpdateUserLimit",
                    UpdateUserLimitRequest(limit: limit, updateMask: mask.map { FieldMask(paths: $0) }),
                    as: "root")
            }
            // What only the service sets is ignored.
            let limit = UserLimitMessage(userID: "a", maxRunning: 2, isOverridden: false, running: 9)
            #expect(try await update(limit, nil).code == .ok)
            #expect(try await update(limit, []).code == .ok)
            let mask = try await update(limit, ["running"])
            #expect(mask.code == .invalidArgument)
            #expect(try mask.decodedDetails.errorInfo?.reason == "MASK_INVALID")
            #expect(try violations(mask) == ["update_mask.paths[0]"])
            let nothing = try await update(UserLimitMessage(userID: "a"), [])
            #expect(try violations(nothing) == ["limit.max_running"])
        }
    }

    // MARK: Sizes

    private func text(_ count: Int) -> String { String(repeating: "x", count: count) }

    /// A job of which everything is as large as it can be.
    private func largestJob() -> JobRecord {
        let labels = (0..<JobLimits.labelsMax).map { number in
            (
                ExactText("\(10 + number)" + text(JobLimits.labelKeyBytesMax - 2)),
                ExactText(text(JobLimits.labelValueBytesMax))
            )
        }
        let error = JobError(
            reason: text(JobLimits.errorReasonBytesMax), message: text(JobLimits.errorMessageBytesMax),
            cause: .handler)
        let now = Timestamp(microseconds: 1_700_000_000_123_456)
        let spec = JobSpec(
            kind: text(JobLimits.kindBytesMax), userID: ExactText(text(JobLimits.userIDBytesMax)),
            queue: text(JobLimits.queueBytesMax),
            payload: Array(repeating: 1, count: JobLimits.payloadBytesMax),
            contentType: ExactText(text(JobLimits.contentTypeBytesMax)),
            idempotencyKey: ExactText(text(JobLimits.idempotencyKeyBytesMax)), priority: -100,
            maxAttempts: 100, labels: Dictionary(uniqueKeysWithValues: labels))
        let attempt = Attempt(
            number: 1_000_000, node: text(255), startedAt: now, endedAt: now, outcome: .failed,
            error: JobError(reason: error.reason, message: text(1024), cause: .handler))
        let line = LogLine(
            number: 1 << 40, at: now, attempt: 1_000_000, level: .warning,
            message: text(JobLimits.logMessageBytesMax))
        return JobRecord(
            number: 1, id: .version7(at: now), spec: spec, state: .succeeded, sequence: 1 << 40,
            createdAt: now, dueAt: now, startedAt: now, finishedAt: now, attempt: 1_000_000,
            progress: Progress(
                stage: text(JobLimits.progressStageBytesMax), fraction: 0.5,
                message: text(JobLimits.progressMessageBytesMax), done: 1 << 40, total: 1 << 40,
                updatedAt: now),
            result: JobResult(
                data: Array(repeating: 1, count: JobLimits.resultBytesMax),
                contentType: ExactText(text(JobLimits.contentTypeBytesMax))),
            error: error, attempts: Array(repeating: attempt, count: 100),
            log: Array(repeating: line, count: JobLimits.logLinesKept))
    }

    @Test func noResponseOfOneJobIsTooLarge() {
        let job = largestJob()
        let get = GetJobResponse(job: job, includePayload: true).encode()
        #expect(get.readableBytes > 2 * (1 << 20) + JobLimits.logLinesKept * JobLimits.logMessageBytesMax)
        #expect(get.readableBytes < Self.responseBytesMax)
        #expect(JobResponse(job: job).encode().readableBytes < Self.responseBytesMax)
        let batch = (0..<JobLimits.batchJobsMax).map { _ in
            EnqueueBatchResponse.Enqueued(
                jobID: job.id, created: false, disposition: .sameRequest, sequence: 1 << 40)
        }
        #expect(EnqueueBatchResponse(jobs: batch).encode().readableBytes < Self.responseBytesMax)
    }

    /// A page that does not fit leaves the rest to the next one, and the token begins there.
    @Test func noPageIsTooLarge() throws {
        let job = largestJob()
        func page<Item>(_ item: Item, _ count: Int) throws -> ListPage<Item> {
            try ListPage(
                StorePage(
                    items: Array(repeating: item, count: count), positions: (0..<count).map { Int64($0) })
            ) { "\($0)" }
        }
        let jobs = try page(job, JobLimits.pageSizeMax).encode {
            ListJobsResponse(jobs: $0, nextPageToken: $1).encode()
        }
        let decoded = try ListJobsResponse.decode(jobs)
        #expect(jobs.readableBytes <= 3 << 20 && jobs.readableBytes > 2 << 20)
        #expect(decoded.nextPageToken.text == "\(decoded.jobs.count - 1)")
        let attempt = Attempt(
            number: 1_000_000, node: text(255), startedAt: job.createdAt, endedAt: job.createdAt,
            outcome: .failed, error: job.error)
        let attempts = try page(attempt, JobLimits.historyPageSizeMax).encode {
            ListAttemptsResponse(attempts: $0, nextPageToken: $1).encode()
        }
        let lines = try page(job.log[0], JobLimits.historyPageSizeMax).encode {
            ListLogLinesResponse(lines: $0, nextPageToken: $1).encode()
        }
        for page in [attempts, lines] { #expect(page.readableBytes <= 3 << 20) }
        let node = NodeRecord(
            id: job.id.uuid, name: text(255), version: "1", startedAt: job.createdAt,
            heartbeatAt: job.createdAt, isAlive: true, concurrency: 100_000,
            kinds: (0..<100).map { "\($0)" + text(100) }, running: 100,
            runningJobs: Array(repeating: job.id, count: 100))
        let nodes = try page(node, JobLimits.pageSizeMax).encode {
            ListNodesResponse(nodes: $0, nextPageToken: $1).encode()
        }
        #expect(nodes.readableBytes <= 3 << 20)
        #expect(try !ListNodesResponse.decode(nodes).nextPageToken.isEmpty)
    }
}
