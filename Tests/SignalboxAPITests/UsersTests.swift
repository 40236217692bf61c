import JobModel
import SignalboxProto
import JobStore
import GRPC
import Support
import Testing

@testable import SignalboxAPI

/// Nobody learns anything of another user's jobs.
@Suite(.timeLimit(.minutes(2))) struct UsersTests {
    private typealias Path = APIBench.Path

    private let id: ExactText = "0197a0de-0000-4000-8000-00000000abcd"

    private func list(of user: String = "", pageSize: Int = 0) -> ListJobsRequest {
        ListJobsRequest(pageSize: pageSize, filter: JobFilterMessage(userID: ExactText(user)))
    }

    /// How every call that names jobs ends, for a caller that may not see this one.
    private func statuses(_ bench: APIBench, as name: String) async throws -> [Status] {
        let calls: [(String, any RequestMessage)] = [
            ("GetJob", GetJobRequest(jobID: id)), ("GetJob", GetJobRequest(jobID: id, includePayload: true)),
            ("Cancel", CancelRequest(jobID: id)), ("Retry", RetryRequest(jobID: id)),
            ("Watch", WatchRequest(jobs: [.init(jobID: id)])),
            // Beyond any sequence, of which a job that is there would complain.
            ("Watch", WatchRequest(jobs: [.init(jobID: id, afterSequence: 99)])),
        ]
        var statuses: [Status] = []
        for (method, request) in calls {
            statuses.append(try await bench.status(Path.job + method, request, as: name))
        }
        return statuses
    }

    /// What a watch of this and another job says of this one.
    private func removal(_ bench: APIBench, _ own: JobID, as name: String) async throws -> WatchEvent? {
        let jobs = [id, "\(own)"].map { WatchRequest.Watched(jobID: $0) }
        var watch = try await bench.watch(WatchRequest(jobs: jobs, includeLog: true), as: name)
        while let bytes = try await watch.next() {
            switch try WatchResponse.decode(bytes).event {
            case .opened: continue
            case let event: return event
            }
        }
        return nil
    }

    @Test func jobOfAnotherAndNoneAreTheSameBytes() async throws {
        try await APIBench.with { bench in
            let own = try await bench.enqueue("b", as: "b").id
            let missing = try await statuses(bench, as: "b")
            #expect(missing.allSatisfy { $0.code == .notFound && !$0.details.isEmpty })
            let removed = WatchEvent.removed(try #require(JobID(id.text)))
            #expect(try await removal(bench, own, as: "b") == removed)
            try await bench.enqueue("a", as: "a") {
                $0.jobID = id
                $0.payload = Array("\"secret\"".utf8)
            }
            for change in [nil, "Cancel", "Retry"] {
                // Waits, is cancelled, waits again.
                if let change {
                    let request = CancelRequest(jobID: id)
                    #expect(try await bench.status(Path.job + change, request, as: "a").code == .ok)
                }
                #expect(try await statuses(bench, as: "b") == missing)
                #expect(try await removal(bench, own, as: "b") == removed)
            }
            #expect(try await statuses(bench, as: "a").first?.code == .ok)
            #expect(try await statuses(bench, as: "root").allSatisfy { $0.code != .notFound })
        }
    }

    @Test func usersOutsideOfTheScopeAreRefused() async throws {
        try await APIBench.with { bench in
            func draft(_ user: String) -> JobSpecDraft {
                var draft = JobSpecDraft()
                draft.kind = "k"
                draft.userID = ExactText(user)
                return draft
            }
            for known in [false, true] {
                // There is such a user, or not: the same.
                if known { try await bench.enqueue("a", as: "a") }
                let calls: [(String, any RequestMessage)] = [
                    (Path.job + "Enqueue", EnqueueRequest(job: draft("a"))),
                    (Path.job + "EnqueueBatch", EnqueueBatchRequest(jobs: [draft("b"), draft("a")])),
                    (Path.job + "ListJobs", list(of: "a")),
                    (Path.job + "Watch", WatchRequest(filter: JobFilterMessage(userID: "a"))),
                    (
                        Path.job + "Watch",
                        WatchRequest(filter: JobFilterMessage(userID: "a", queue: "default"))
                    ),
                    (
                        Path.admin + "UpdateUserLimit",
                        UpdateUserLimitRequest(limit: UserLimitMessage(userID: "a", maxRunning: 1))
                    ),
                    (Path.admin + "GetUserLimit", GetUserLimitRequest(userID: "a")),
                ]
                for (path, request) in calls {
                    let status = try await bench.status(path, request, as: "b")
                    #expect(status.code == .permissionDenied, "\(path)")
                    #expect(try status.decodedDetails.errorInfo?.reason == "USER_NOT_ALLOWED", "\(path)")
                    #expect(status.message.hasSuffix("is not a user for whom this caller may act"))
                    for name in ["a", "ab", "root"] where !path.hasSuffix("Batch") {
                        #expect(try await bench.status(path, request, as: name).code == .ok, "\(path)")
                    }
                }
                #expect(
                    try await bench.status(
                        Path.job + "EnqueueBatch", EnqueueBatchRequest(jobs: [draft("b"), draft("a")]),
                        as: "b"
                    ).message.hasPrefix("jobs[1].user_id"))
            }
            // The batch was refused whole.
            #expect(try await bench.count("job WHERE user_id = 'b'") == 0)
        }
    }

    /// What is wrong with the request itself is said first, to everybody; what is asked of the service comes after.
    @Test func whatIsWrongWithTheRequestComesFirst() async throws {
        try await APIBench.with { bench async throws in
            var draft = JobSpecDraft()
            draft.userID = "a"
            var request = EnqueueRequest(job: draft)
            #expect(try await bench.status(Path.job + "Enqueue", request, as: "b").code == .invalidArgument)
            draft.kind = "unknown"
            request = EnqueueRequest(job: draft)
            #expect(try await bench.status(Path.job + "Enqueue", request, as: "b").code == .permissionDenied)
            #expect(
                try await bench.status(Path.job + "Enqueue", request, as: "a").code == .failedPrecondition)
        }
    }

    /// Whoever names an id that is taken learns that, and nothing else.
    @Test func ownIDThatAnotherHas() async throws {
        try await APIBench.with { bench in
            try await bench.enqueue("a", as: "a") {
                $0.jobID = id
                $0.payload = Array("\"secret\"".utf8)
            }
            func taken(_ user: String, payload: String) async throws -> Status {
                var draft = JobSpecDraft()
                draft.kind = "k"
                draft.userID = ExactText(user)
                draft.jobID = id
                draft.payload = Array(payload.utf8)
                return try await bench.status(Path.job + "Enqueue", EnqueueRequest(job: draft), as: user)
            }
            let own = try await taken("a", payload: "1")
            #expect(own.code == .alreadyExists)
            for payload in ["1", "\"secret\""] { #expect(try await taken("b", payload: payload) == own) }
            #expect(try own.decodedDetails.resource?.name == id.text)
            // The key of another is free.
            try await bench.enqueue("a", as: "a") { $0.idempotencyKey = "key" }
            #expect(try await bench.enqueue("b", as: "b") { $0.idempotencyKey = "key" }.spec.userID == "b")
        }
    }

    @Test func listsOfWhatIsAllowed() async throws {
        try await APIBench.with { bench in
            var ids: [String: [JobID]] = [:]
            for number in 0..<30 {
                let user = ["a", "b", "c"][number % 3]
                ids[user, default: []].append(try await bench.enqueue(user, as: "root").id)
            }
            let all = try await bench.call(
                Path.job + "ListJobs", ListJobsRequest(), as: "root", ListJobsResponse.self)
            #expect(all.jobs.count == 30)
            for (name, users) in [("a", ["a"]), ("b", ["b"]), ("ab", ["a", "b"])] {
                var found: [JobRecord] = []
                var request = list(pageSize: 4)
                repeat {
                    let page = try await bench.call(
                        Path.job + "ListJobs", request, as: name, ListJobsResponse.self)
                    found += page.jobs
                    request.pageToken = page.nextPageToken
                    try await bench.enqueue("c", as: "root")
                } while !request.pageToken.isEmpty && found.count < 100
                #expect(Set(found.map(\.id)) == Set(users.flatMap { ids[$0] ?? [] }))
                #expect(found.count == 10 * users.count)
                #expect(found.map(\.createdAt) == found.map(\.createdAt).sorted(by: >))
            }
        }
    }

    /// From the snapshot on.
    @Test func watchOfAQueueTellsOfWhatIsAllowed() async throws {
        try await APIBench.with { bench in
            let (mine, theirs) = (
                try await bench.enqueue("b", as: "b"), try await bench.enqueue("a", as: "a")
            )
            var watch = try await bench.watch(
                WatchRequest(filter: JobFilterMessage(queue: "default")), as: "b")
            func next() async throws -> WatchEvent {
                try WatchResponse.decode(try #require(try await watch.next())).event
            }
            guard case .opened(resumed: false, heartbeatInterval: .seconds(15)) = try await next() else {
                throw Unexpected()
            }
            guard case .snapshot(let job) = try await next() else { throw Unexpected() }
            #expect(job.id == mine.id)
            guard case .snapshotsComplete = try await next() else { throw Unexpected() }
            for _ in 0..<5 {
                try await bench.enqueue("a", as: "a")
                let own = try await bench.enqueue("b", as: "b")
                guard case .lifecycle(let event) = try await next() else { throw Unexpected() }
                #expect(event.jobID == own.id && event.type == .enqueued)
            }
            // Of both there is progress.
            let runs = try await bench.store.claim(
                ClaimRequest(slots: 100, kinds: bench.kinds, cursor: ClaimCursor(), defaultUserLimit: 1)
            ).runs
            #expect(Set(runs.map(\.key.id)) == [mine.id, theirs.id])
            let progress = Progress(
                stage: "", fraction: 0.5, message: "", done: 0, total: 0,
                updatedAt: Timestamp(microseconds: 1))
            try await bench.store.save(
                runs.map { RunUpdate($0, progress: progress, log: []) })
            for run in runs {
                _ = try await bench.store.finish(
                    FinishedRun(run, node: "one", verdict: .final(.succeeded, nil, nil)))
            }
            var events: [JobEventType] = []
            while events.last != .succeeded {
                switch try await next() {
                case .lifecycle(let event):
                    #expect(event.jobID == mine.id)
                    if let type = event.type { events.append(type) }
                case .progress(let job, _, _): #expect(job == mine.id)
                case .heartbeat: break
                default: throw Unexpected()
                }
            }
            #expect(events == [.started, .succeeded])
        }
    }

    @Test func theAuditNamesWhoCalls() async throws {
        try await APIBench.with { bench in
            let job = try await bench.enqueue("a", as: "ab")
            _ = try await bench.call(
                Path.job + "Cancel", CancelRequest(jobID: "\(job.id)"), as: "a", JobResponse.self)
            _ = try await bench.call(
                Path.job + "Retry", RetryRequest(jobID: "\(job.id)"), as: "root", JobResponse.self)
            for method in ["PauseQueue", "ResumeQueue"] {
                let request = PauseQueueRequest(queue: "q")
                #expect(try await bench.status(Path.admin + method, request, as: "root").code == .ok)
            }
            let limit = UpdateUserLimitRequest(
                limit: UserLimitMessage(userID: "b", queue: "q", maxRunning: 2))
            #expect(try await bench.status(Path.admin + "UpdateUserLimit", limit, as: "ab").code == .ok)
            // What is refused, and what only looks, is no change.
            #expect(
                try await bench.status(Path.admin + "UpdateUserLimit", limit, as: "a").code
                    == .permissionDenied)
            #expect(try await bench.status(Path.job + "ListJobs", ListJobsRequest(), as: "a").code == .ok)
            let rows = try await bench.texts("SELECT concat_ws(' ', caller, action) FROM audit ORDER BY at")
            #expect(
                rows == [
                    "ab enqueue", "a cancel", "root retry", "root pause_queue", "root resume_queue",
                    "ab set_user_limit",
                ])
            let addresses = try await bench.texts("SELECT DISTINCT address FROM audit")
            #expect(addresses.count == 1 && addresses[0].hasPrefix("127.0.0.1:"))
        }
    }
}

private struct Unexpected: Error {}
