import CSignalboxProto
package import JobModel
package import NIOCore
package import Support

// MARK: - Requests

package struct EnqueueRequest: RequestMessage {
    /// Nil after decoding: a violation was added.
    package var job: JobSpecDraft?

    package init(job: JobSpecDraft? = nil) {
        self.job = job
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> EnqueueRequest {
        try unsafe decode(bytes, signalbox__v1__enqueue_request__unpack, into: &violations) {
            message, reader in
            guard let job = unsafe message.job?.pointee else {
                reader.add("job", "is required")
                return EnqueueRequest()
            }
            return unsafe EnqueueRequest(job: reader.spec(job, at: .job))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__enqueue_request__init) { message, arena in
            guard let job else { return }
            unsafe message.job = arena.make(signalbox__v1__job_spec__init) {
                unsafe arena.fill(&$0, with: job)
            }
        }
    }
}

package struct EnqueueBatchRequest: RequestMessage {
    /// 1 to 10,000. Empty after decoding: a violation was added.
    package var jobs: [JobSpecDraft]

    package init(jobs: [JobSpecDraft] = []) {
        self.jobs = jobs
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> EnqueueBatchRequest {
        try unsafe decode(bytes, signalbox__v1__enqueue_batch_request__unpack, into: &violations) {
            message, reader in
            let count = unsafe message.n_jobs
            guard (1...JobLimits.batchJobsMax).contains(count) else {
                reader.add("jobs", "are not 1 to \(JobLimits.batchJobsMax)")
                return EnqueueBatchRequest()
            }
            return unsafe EnqueueBatchRequest(
                jobs: reader.list(count, message.jobs) { unsafe reader.spec($1, at: .jobs($0)) })
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__enqueue_batch_request__init) { message, arena in
            unsafe (message.n_jobs, message.jobs) = arena.list(jobs, signalbox__v1__job_spec__init) {
                unsafe arena.fill(&$0, with: $1)
            }
        }
    }
}

package struct GetJobRequest: RequestMessage, Hashable {
    package var jobID: ExactText
    package var includePayload: Bool

    package init(jobID: ExactText = "", includePayload: Bool = false) {
        self.jobID = jobID
        self.includePayload = includePayload
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> GetJobRequest {
        try unsafe decode(bytes, signalbox__v1__get_job_request__unpack, into: &violations) {
            message, reader in
            unsafe GetJobRequest(
                jobID: reader.idText(message.job_id, "job_id"), includePayload: message.include_payload != 0)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__get_job_request__init) { message, arena in
            unsafe message.job_id = arena.text(jobID)
            unsafe message.include_payload = includePayload ? 1 : 0
        }
    }
}

/// Empty text and unset times match everything.
package struct ListJobsRequest: RequestMessage {
    package var userID: ExactText = ""
    package var queue: ExactText = ""
    package var kind: ExactText = ""
    /// Empty: every state.
    package var states: Set<JobState> = []
    /// Decoding gives at most one more than is allowed.
    package var labels: [(key: ExactText, value: ExactText)] = []
    package var createdFrom: Timestamp?
    package var createdTo: Timestamp?
    /// 0: not given.
    package var pageSize = 0
    package var pageToken: ExactText = ""

    package init() {}

    /// More values of `states` than this are refused: there are five.
    private static let statesMax = 64

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> ListJobsRequest {
        try unsafe decode(bytes, signalbox__v1__list_jobs_request__unpack, into: &violations) {
            message, reader in
            var request = ListJobsRequest()
            unsafe request.userID = reader.userID(message.user_id)
            unsafe request.queue = reader.queue(message.queue)
            unsafe request.kind = reader.text(message.kind, "kind", bytesMax: JobLimits.kindBytesMax)
            let states = unsafe reader.values(min(message.n_states, statesMax + 1), message.states)
            if states.count > statesMax { reader.add("states", "are more than \(statesMax)") }
            for state in states.prefix(statesMax) {
                if let state = JobState(onWire: state) {
                    request.states.insert(state)
                } else {
                    reader.add("states", "has an unknown state: \(state.rawValue)")
                }
            }
            let labelsMax = JobLimits.listLabelsMax + 1
            unsafe request.labels = reader.list(message.n_labels, message.labels, limit: labelsMax) {
                unsafe reader.label($1.key, $1.value, "labels")
            }
            unsafe request.createdFrom = reader.timestamp(message.created_from, "created_from")
            unsafe request.createdTo = reader.timestamp(message.created_to, "created_to")
            unsafe request.pageSize = Int(message.page_size)
            unsafe request.pageToken = reader.text(
                message.page_token, "page_token", bytesMax: JobLimits.pageTokenBytesMax)
            return request
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__list_jobs_request__init) { message, arena in
            unsafe message.user_id = arena.text(userID)
            unsafe message.queue = arena.text(queue)
            unsafe message.kind = arena.text(kind)
            let states = JobState.allCases.filter { self.states.contains($0) }
            unsafe (message.n_states, message.states) = arena.array(states) { $0.onWire }
            unsafe (message.n_labels, message.labels) = arena.list(
                labels, signalbox__v1__list_jobs_request__labels_entry__init
            ) { entry, label in
                unsafe entry.key = arena.text(label.key)
                unsafe entry.value = arena.text(label.value)
            }
            unsafe message.created_from = arena.timestamp(createdFrom)
            unsafe message.created_to = arena.timestamp(createdTo)
            unsafe message.page_size = UInt32(clamping: pageSize)
            unsafe message.page_token = arena.text(pageToken)
        }
    }
}

package struct WatchRequest: RequestMessage, Hashable {
    package struct Watched: Sendable, Hashable {
        package var jobID: ExactText
        /// 0: from the snapshot on.
        package var afterSequence: Int64

        package init(jobID: ExactText, afterSequence: Int64 = 0) {
            self.jobID = jobID
            self.afterSequence = afterSequence
        }
    }

    /// Decoding adds a violation, and gives none, when there are more than 1,000.
    package var jobs: [Watched]
    package var userID: ExactText
    package var queue: ExactText
    package var includeLog: Bool

    package init(
        jobs: [Watched] = [], userID: ExactText = "", queue: ExactText = "", includeLog: Bool = false
    ) {
        self.jobs = jobs
        self.userID = userID
        self.queue = queue
        self.includeLog = includeLog
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> WatchRequest {
        try unsafe decode(bytes, signalbox__v1__watch_request__unpack, into: &violations) {
            message, reader in
            let count = unsafe message.n_jobs
            guard count <= JobLimits.watchedJobsMax else {
                reader.add("jobs", "are more than \(JobLimits.watchedJobsMax)")
                return WatchRequest()
            }
            let jobs = unsafe reader.list(count, message.jobs) { index, watched in
                unsafe Watched(
                    jobID: reader.idText(watched.job_id, "jobs[\(index)].job_id"),
                    afterSequence: Int64(clamping: watched.after_sequence))
            }
            return unsafe WatchRequest(
                jobs: jobs, userID: reader.userID(message.user_id),
                queue: reader.queue(message.queue), includeLog: message.include_log != 0)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__watch_request__init) { message, arena in
            unsafe (message.n_jobs, message.jobs) = arena.list(jobs, signalbox__v1__watched_job__init) {
                watched, job in
                unsafe watched.job_id = arena.text(job.jobID)
                unsafe watched.after_sequence = UInt64(clamping: job.afterSequence)
            }
            unsafe message.user_id = arena.text(userID)
            unsafe message.queue = arena.text(queue)
            unsafe message.include_log = includeLog ? 1 : 0
        }
    }
}

package struct CancelRequest: RequestMessage, Hashable {
    package var jobID: ExactText
    package var reason: ExactText

    package init(jobID: ExactText = "", reason: ExactText = "") {
        self.jobID = jobID
        self.reason = reason
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> CancelRequest {
        try unsafe decode(bytes, signalbox__v1__cancel_request__unpack, into: &violations) {
            message, reader in
            unsafe CancelRequest(
                jobID: reader.idText(message.job_id, "job_id"),
                reason: reader.text(
                    message.reason, "reason", bytesMax: JobLimits.cancelReasonBytesMax))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__cancel_request__init) { message, arena in
            unsafe message.job_id = arena.text(jobID)
            unsafe message.reason = arena.text(reason)
        }
    }
}

package struct RetryRequest: RequestMessage, Hashable {
    package var jobID: ExactText

    package init(jobID: ExactText = "") {
        self.jobID = jobID
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> RetryRequest {
        try unsafe decode(bytes, signalbox__v1__retry_request__unpack, into: &violations) {
            message, reader in
            unsafe RetryRequest(jobID: reader.idText(message.job_id, "job_id"))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__retry_request__init) { message, arena in
            unsafe message.job_id = arena.text(jobID)
        }
    }
}
