import JobModel
package import JobService
import SignalboxProto
import NIOCore
package import GRPC
import Support

/// `signalbox.v1.JobService` without Watch: decodes the requests, and encodes what `JobOperations` answers.
package struct JobServiceHandlers: Sendable {
    /// The largest request that has no payload: it holds names, labels and reasons.
    private static let requestBytesMax = 16 << 10
    /// The largest Enqueue message: a payload at its limit, and the other fields at theirs.
    private static let enqueueBytesMax = JobLimits.payloadBytesMax + (64 << 10)

    private let jobs: JobOperations

    package init(jobs: JobOperations) {
        self.jobs = jobs
    }

    package var methods: [Method] {
        [
            Method(
                JobServiceMethod.enqueue, maxRequestBytes: Self.enqueueBytesMax,
                .unary { bytes, context, reply in
                    try enqueue(bytes, by: context.caller, reply)
                }),
            .unary(JobServiceMethod.enqueueBatch, maxRequestBytes: JobLimits.batchBytesMax) {
                try await enqueueBatch($0, by: $1.caller)
            },
            .unary(JobServiceMethod.getJob, maxRequestBytes: Self.requestBytesMax) {
                try await getJob($0, for: $1.caller)
            },
            .unary(JobServiceMethod.listJobs, maxRequestBytes: Self.requestBytesMax) {
                try await listJobs($0, for: $1.caller)
            },
            .unary(JobServiceMethod.listAttempts, maxRequestBytes: Self.requestBytesMax) {
                try await listAttempts($0, for: $1.caller)
            },
            .unary(JobServiceMethod.listLogLines, maxRequestBytes: Self.requestBytesMax) {
                try await listLogLines($0, for: $1.caller)
            },
            .unary(JobServiceMethod.cancel, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                let request = try CancelRequest.read(bytes)
                let id = try JobID(request.jobID, field: "job_id")
                let job = try await jobs.cancel(
                    id, note: request.note, expectedSequence: request.expectedSequence, by: context.caller)
                return JobResponse(job: job).encode()
            },
            .unary(JobServiceMethod.retry, maxRequestBytes: Self.requestBytesMax) { bytes, context in
                let request = try RetryRequest.read(bytes)
                let id = try JobID(request.jobID, field: "job_id")
                let job = try await jobs.retry(
                    id, expectedSequence: request.expectedSequence, by: context.caller)
                return JobResponse(job: job).encode()
            },
        ]
    }

    private func enqueue(_ bytes: ByteBuffer, by caller: Caller, _ reply: Reply) throws -> UnaryStep {
        var violations: [FieldViolation] = []
        let request = try EnqueueRequest.decode(bytes, into: &violations)
        guard let draft = request.job else { throw ServiceError.invalid(violations) }
        let rest = try jobs.enqueue(draft, found: violations, by: caller) { result in
            reply.send { try Self.encode(result.get()) }
        }
        guard let rest else { return .later }
        return .work { Self.encode(try await rest()) }
    }

    private static func encode(_ enqueued: Enqueued) -> ByteBuffer {
        EnqueueResponse(
            job: enqueued.job, created: enqueued.isNew, disposition: enqueued.disposition
        ).encode()
    }

    private func enqueueBatch(_ bytes: ByteBuffer, by caller: Caller) async throws -> ByteBuffer {
        var violations: [FieldViolation] = []
        let request = try EnqueueBatchRequest.decode(bytes, into: &violations)
        let enqueued = try await jobs.enqueueBatch(request.jobs, found: violations, by: caller)
        return EnqueueBatchResponse(
            jobs: enqueued.map {
                .init(
                    jobID: $0.id, created: $0.isNew, disposition: $0.disposition, sequence: $0.sequence)
            }
        ).encode()
    }

    private func getJob(_ bytes: ByteBuffer, for caller: Caller) async throws -> ByteBuffer {
        let request = try GetJobRequest.read(bytes)
        let id = try JobID(request.jobID, field: "job_id")
        let job = try await jobs.get(id, payload: request.includePayload, for: caller)
        return GetJobResponse(job: job, includePayload: request.includePayload).encode()
    }

    private func listJobs(_ bytes: ByteBuffer, for caller: Caller) async throws -> ByteBuffer {
        var violations: [FieldViolation] = []
        let request = try ListJobsRequest.decode(bytes, into: &violations)
        return try await jobs.list(JobListQuery(request), found: violations, for: caller).encode {
            ListJobsResponse(jobs: $0, nextPageToken: $1).encode()
        }
    }

    private func listAttempts(_ bytes: ByteBuffer, for caller: Caller) async throws -> ByteBuffer {
        var violations: [FieldViolation] = []
        let request = try ListAttemptsRequest.decode(bytes, into: &violations)
        let id = try JobID(request.jobID, field: "job_id", found: violations)
        let page = PageRequest(size: request.pageSize, token: request.pageToken)
        return try await jobs.attempts(of: id, page, found: violations, for: caller).encode {
            ListAttemptsResponse(attempts: $0, nextPageToken: $1).encode()
        }
    }

    private func listLogLines(_ bytes: ByteBuffer, for caller: Caller) async throws -> ByteBuffer {
        var violations: [FieldViolation] = []
        let request = try ListLogLinesRequest.decode(bytes, into: &violations)
        let id = try JobID(request.jobID, field: "job_id", found: violations)
        let page = PageRequest(size: request.pageSize, token: request.pageToken)
        return try await jobs.logLines(
            of: id, after: request.afterLine, from: request.minLevel, page, found: violations, for: caller
        ).encode { ListLogLinesResponse(lines: $0, nextPageToken: $1).encode() }
    }
}

extension JobListQuery {
    fileprivate init(_ request: ListJobsRequest) {
        self.init()
        page = PageRequest(size: request.pageSize, token: request.pageToken)
        guard let filter = request.filter else { return }
        userID = filter.userID
        queue = filter.queue
        kinds = filter.kinds
        states = filter.states
        labels = filter.labels
        createdFrom = filter.createdFrom
        createdTo = filter.createdTo
    }
}
