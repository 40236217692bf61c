import JobModel
import SignalboxProto
package import JobStore
import NIOCore
package import GRPC
import Support

/// `signalbox.v1.JobService`, but for Watch.
package struct JobServiceHandlers: Sendable {
    /// Names, labels and reasons: what carries no payload needs no more.
    private static let requestBytesMax = 16 << 10
    /// The largest Enqueue message: a payload at its limit, and the other fields at theirs.
    private static let enqueueBytesMax = JobLimits.payloadBytesMax + (64 << 10)

    /// Of a page: gRPC's clients accept 4 MiB unless they are told otherwise. A single job is far below.
    private static let pageBytesMax = 3 << 20

    /// Of a batch: more would help nobody, and not fit the status either.
    private static let violationsMax = 64

    let store: JobStore
    let kinds: KnownKinds
    let quotas: UserQuotas
    let pageTokens: PageTokens

    package init(store: JobStore, kinds: KnownKinds, quotas: UserQuotas, pageTokens: PageTokens) {
        self.store = store
        self.kinds = kinds
        self.quotas = quotas
        self.pageTokens = pageTokens
    }

    package var methods: [Method] {
        [
            Method(
                JobServiceMethod.enqueue, maxRequestBytes: Self.enqueueBytesMax,
                .unary { bytes, context, reply in
                    try enqueue(bytes, by: context.caller, reply)
                }),
            .unary(JobServiceMethod.enqueueBatch) { try await enqueueBatch($0, by: $1.caller) },
            .unary(JobServiceMethod.getJob, maxRequestBytes: Self.requestBytesMax) {
                try await getJob($0, for: $1.caller)
            },
            .unary(JobServiceMethod.listJobs, maxRequestBytes: Self.requestBytesMax) {
                try await listJobs($0, for: $1.caller)
            },
            .unary(JobServiceMethod.cancel, maxRequestBytes: Self.requestBytesMax) {
                try await cancel($0, by: $1.caller)
            },
            .unary(JobServiceMethod.retry, maxRequestBytes: Self.requestBytesMax) {
                try await retry($0, by: $1.caller)
            },
        ]
    }

    private func enqueue(_ bytes: ByteBuffer, by caller: Caller, _ reply: Reply) throws -> UnaryStep {
        var violations: [FieldViolation] = []
        let request = try EnqueueRequest.decode(bytes, into: &violations)
        let now = Timestamp.now
        guard let spec = request.job?.validated(path: "job.", now: now, into: &violations) else {
            throw StatusMapping.invalid(violations)
        }
        try Self.checkPayload(spec.payload, "job.payload")
        // What is wrong with the request itself is said first; whatever else there is to say is not for everybody.
        try caller.check(spec.userID, "job.user_id")
        switch kinds.verdict(on: spec.kind) {
        case .known, .knownFromBefore: break
        case .unknown: throw Self.unknownKind(spec.kind, "job.kind")
        case .notRemembered:
            return .work {
                guard try await kinds.firstUnknown([spec.kind]) == nil else {
                    throw Self.unknownKind(spec.kind, "job.kind")
                }
                return try await enqueue(NewJob(spec: spec, now: now, by: caller), by: caller)
            }
        }
        let job = NewJob(spec: spec, now: now, by: caller)
        guard quotas.limitsEnqueues else {
            store.enqueue(job) { enqueued in
                reply.send { Self.response(try enqueued.get(), to: caller) }
            }
            return .later
        }
        let demand = UserQuotas.Demand(spec.userID, payloadBytes: spec.payload.count)
        guard try quotas.admitAtOnce(demand) else { return .work { try await enqueue(job, by: caller) } }
        store.enqueue(job) { enqueued in
            quotas.settle(demand, enqueued)
            reply.send { Self.response(try enqueued.get(), to: caller) }
        }
        return .later
    }

    private func enqueue(_ job: NewJob, by caller: Caller) async throws -> ByteBuffer {
        let demand = UserQuotas.Demand(job.spec.userID, payloadBytes: job.spec.payload.count)
        return Self.response(
            try await quotas.admitting(demand, wereAdded: \.isNew) { try await store.enqueue(job) },
            to: caller)
    }

    private static func response(_ enqueued: Enqueued, to caller: Caller) -> ByteBuffer {
        EnqueueResponse(job: told(enqueued.job, to: caller), created: enqueued.isNew).encode()
    }

    /// The job without the parts that the caller may not see. A call that changes a job may answer with one that is there
    /// already, or is over already, and has a result.
    private static func told(_ job: JobRecord, to caller: Caller) -> JobRecord {
        var job = job
        if !caller.mayRead { job.result = nil }
        if !caller.seesNodes {
            for index in job.attempts.indices { job.attempts[index].node = "" }
        }
        return job
    }

    private func enqueueBatch(_ bytes: ByteBuffer, by caller: Caller) async throws -> ByteBuffer {
        var violations: [FieldViolation] = []
        let request = try EnqueueBatchRequest.decode(bytes, into: &violations)
        let now = Timestamp.now
        var jobs: [NewJob] = []
        jobs.reserveCapacity(request.jobs.count)
        for (index, draft) in request.jobs.enumerated() {
            try Self.checkPayload(draft.payload, "jobs[\(index)].payload")
            if let spec = draft.validated(path: "jobs[\(index)].", now: now, into: &violations) {
                jobs.append(NewJob(spec: spec, now: now, by: caller))
            }
            if violations.count >= Self.violationsMax { break }
        }
        guard violations.isEmpty else { throw StatusMapping.invalid(violations) }
        for (index, job) in jobs.enumerated() { try caller.check(job.spec.userID, "jobs[\(index)].user_id") }
        if let unknown = try await kinds.firstUnknown(jobs.lazy.map(\.spec.kind)) {
            let index = jobs.firstIndex { $0.spec.kind == unknown } ?? 0
            throw Self.unknownKind(unknown, "jobs[\(index)].kind")
        }
        let enqueued = try await quotas.admitting(
            UserQuotas.Demand(jobs), wereAdded: { $0.contains { $0.created } }
        ) { [jobs] in
            do throws(StoreError) {
                return try await store.enqueueBatch(jobs).map {
                    EnqueueBatchResponse.Enqueued(jobID: $0.id, created: $0.isNew)
                }
            } catch {
                guard case .conflict(let id, let index) = error else { throw error }
                throw StatusMapping.conflict(
                    id, "jobs[\(index)]: a job with this id or key has other content")
            }
        }
        return EnqueueBatchResponse(jobs: enqueued).encode()
    }

    private func getJob(_ bytes: ByteBuffer, for caller: Caller) async throws -> ByteBuffer {
        let request = try GetJobRequest.read(bytes)
        let id = try Self.jobID(request.jobID)
        guard
            let job = try await store.jobWithHistory(
                id, for: caller.users, payload: request.includePayload)
        else { throw StatusMapping.notFound(id) }
        return GetJobResponse(job: Self.told(job, to: caller), includePayload: request.includePayload)
            .encode()
    }

    private func listJobs(_ bytes: ByteBuffer, for caller: Caller) async throws -> ByteBuffer {
        let request = try ListJobsRequest.read(bytes) { request, check in
            check.userID(request.userID, required: false)
            check.name(request.queue, "queue", bytesMax: JobLimits.queueBytesMax, required: false)
            check.name(request.kind, "kind", bytesMax: JobLimits.kindBytesMax, required: false)
            check.labels(request.labels, countMax: JobLimits.listLabelsMax)
            check.require(
                (0...JobLimits.pageSizeMax).contains(request.pageSize), "page_size", "is over 1,000")
        }
        var filter = JobFilter()
        filter.userID = request.userID.nonEmpty
        if let userID = filter.userID { try caller.check(userID, "user_id") }
        filter.queue = request.queue.nonEmpty?.text
        filter.kind = request.kind.nonEmpty?.text
        filter.states = request.states
        filter.labels = Dictionary(
            request.labels.map { ($0.key, $0.value) }, uniquingKeysWith: { _, last in last })
        filter.createdFrom = request.createdFrom
        filter.createdTo = request.createdTo
        var before: Int64?
        if !request.pageToken.isEmpty {
            before = pageTokens.decode(request.pageToken.text, filter, for: caller)
            guard before != nil else {
                throw StatusMapping.invalid([
                    FieldViolation(
                        field: "page_token", description: "is not one of ours for these filters")
                ])
            }
        }
        let size = request.pageSize == 0 ? JobLimits.pageSizeDefault : request.pageSize
        let page = try await store.list(filter, for: caller.users, before: before, size: size)
        return try Self.encode(page) { try pageTokens.encode($0, filter, for: caller) }
    }

    /// Leaves to the next page what does not fit.
    static func encode(
        _ page: JobPage, bytesMax: Int = pageBytesMax, token: (Int64) throws -> String
    ) rethrows -> ByteBuffer {
        var page = page
        while true {
            let token = try page.next.map(token) ?? ""
            let bytes = ListJobsResponse(jobs: page.jobs, nextPageToken: ExactText(token)).encode()
            guard bytes.readableBytes > bytesMax, page.jobs.count > 1 else { return bytes }
            let fitting = page.jobs.count * bytesMax / bytes.readableBytes
            page.jobs = Array(page.jobs.prefix(max(1, min(fitting, page.jobs.count - 1))))
            page.next = page.jobs.last?.number
        }
    }

    private func cancel(_ bytes: ByteBuffer, by caller: Caller) async throws -> ByteBuffer {
        let request = try CancelRequest.read(bytes) { request, check in
            check.text(request.reason, "reason", bytesMax: JobLimits.cancelReasonBytesMax, required: false)
        }
        let id = try Self.jobID(request.jobID)
        do {
            return JobResponse(
                job: Self.told(
                    try await store.cancel(id, reason: request.reason.text, by: caller), to: caller)
            ).encode()
        } catch {
            throw StatusMapping.naming(id, in: error)
        }
    }

    private func retry(_ bytes: ByteBuffer, by caller: Caller) async throws -> ByteBuffer {
        let request = try RetryRequest.read(bytes)
        let id = try Self.jobID(request.jobID)
        do {
            // It waits again, as one that is enqueued.
            if quotas.limitsEnqueues, let (userID, bytes) = try await store.payloadSize(id, for: caller.users)
            {
                let demand = UserQuotas.Demand(userID, payloadBytes: bytes)
                return try await quotas.admitting(demand, wereAdded: { _ in true }) {
                    JobResponse(job: try await store.retry(id, by: caller)).encode()
                }
            }
            return JobResponse(job: try await store.retry(id, by: caller)).encode()
        } catch let error as StoreError {
            throw StatusMapping.naming(id, in: error)
        }
    }

    static func jobID(_ text: ExactText, _ field: String = "job_id") throws -> JobID {
        guard let id = JobID(text.text) else {
            throw StatusMapping.invalid([
                FieldViolation(
                    field: field,
                    description: text.isEmpty ? "is required" : "is not a UUID of 36 characters")
            ])
        }
        return id
    }

    private static func checkPayload(_ payload: [UInt8], _ field: String) throws {
        guard payload.count <= JobLimits.payloadBytesMax else {
            throw Status(
                .resourceExhausted,
                "\(field) has \(payload.count) bytes, at most \(JobLimits.payloadBytesMax)")
        }
    }

    private static func unknownKind(_ kind: String, _ field: String) -> Status {
        StatusMapping.invalid([FieldViolation(field: field, description: "no live node handles \(kind)")])
    }
}
