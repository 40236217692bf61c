import CSignalboxProto
package import JobModel
package import NIOCore
package import Support

// A job that was decoded has the number 0, is due `.at` its due time, and has no `spec.jobID`.

package struct EnqueueResponse: ResponseMessage, Hashable {
    package var job: JobRecord
    package var created: Bool

    package init(job: JobRecord, created: Bool) {
        self.job = job
        self.created = created
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> EnqueueResponse {
        try unsafe decode(bytes, signalbox__v1__enqueue_response__unpack) { message, reader in
            unsafe EnqueueResponse(job: reader.requiredJob(message.job), created: message.created != 0)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__enqueue_response__init) { message, arena in
            unsafe message.job = arena.job(job, JobParts())
            unsafe message.created = created ? 1 : 0
        }
    }
}

package struct EnqueueBatchResponse: ResponseMessage, Hashable {
    package struct Enqueued: Sendable, Hashable {
        package var jobID: JobID
        package var created: Bool

        package init(jobID: JobID, created: Bool) {
            self.jobID = jobID
            self.created = created
        }
    }

    /// In the order of the request.
    package var jobs: [Enqueued]

    package init(jobs: [Enqueued]) {
        self.jobs = jobs
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> EnqueueBatchResponse {
        try unsafe decode(bytes, signalbox__v1__enqueue_batch_response__unpack) { message, reader in
            let jobs = unsafe reader.list(message.n_jobs, message.jobs) { index, job in
                unsafe Enqueued(
                    jobID: reader.jobID(job.job_id, "jobs[\(index)].job_id"), created: job.created != 0)
            }
            return EnqueueBatchResponse(jobs: jobs)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__enqueue_batch_response__init) { message, arena in
            unsafe (message.n_jobs, message.jobs) = arena.list(jobs, signalbox__v1__enqueued_job__init) {
                unsafe $0.job_id = arena.text($1.jobID.description)
                unsafe $0.created = $1.created ? 1 : 0
            }
        }
    }
}

/// With attempts and log.
package struct GetJobResponse: ResponseMessage, Hashable {
    package var job: JobRecord
    /// Without it the payload is left out. Decoding sets it when there is one.
    package var includePayload: Bool

    package init(job: JobRecord, includePayload: Bool) {
        self.job = job
        self.includePayload = includePayload
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> GetJobResponse {
        try unsafe decode(bytes, signalbox__v1__get_job_response__unpack) { message, reader in
            let job = unsafe reader.requiredJob(message.job)
            return GetJobResponse(job: job, includePayload: !job.spec.payload.isEmpty)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__get_job_response__init) { message, arena in
            unsafe message.job = arena.job(job, JobParts(history: true, payload: includePayload))
        }
    }
}

/// Encoding leaves out attempts, log, payload and result.
package struct ListJobsResponse: ResponseMessage, Hashable {
    package var jobs: [JobRecord]
    /// Empty: that was all.
    package var nextPageToken: ExactText

    package init(jobs: [JobRecord], nextPageToken: ExactText) {
        self.jobs = jobs
        self.nextPageToken = nextPageToken
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> ListJobsResponse {
        try unsafe decode(bytes, signalbox__v1__list_jobs_response__unpack) { message, reader in
            unsafe ListJobsResponse(
                jobs: reader.list(message.n_jobs, message.jobs) { unsafe reader.job($1, "jobs[\($0)]") },
                nextPageToken: reader.answerText(message.next_page_token, "next_page_token"))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__list_jobs_response__init) { message, arena in
            unsafe (message.n_jobs, message.jobs) = arena.list(jobs, signalbox__v1__job__init) {
                unsafe arena.fill(&$0, with: $1, JobParts(result: false))
            }
            unsafe message.next_page_token = arena.text(nextPageToken)
        }
    }
}

/// CancelResponse and RetryResponse: they are the same on the wire.
package struct JobResponse: ResponseMessage, Hashable {
    package var job: JobRecord

    package init(job: JobRecord) {
        self.job = job
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> JobResponse {
        try unsafe decode(bytes, signalbox__v1__cancel_response__unpack) { message, reader in
            unsafe JobResponse(job: reader.requiredJob(message.job))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__cancel_response__init) { message, arena in
            unsafe message.job = arena.job(job, JobParts())
        }
    }
}

/// One message of a watch.
package enum WatchResponse: ResponseMessage, Hashable {
    /// Encoding leaves out attempts, log and payload.
    case snapshot(JobRecord)
    case lifecycle(JobEvent)
    case progress(JobID, attempt: Int, Progress)
    case heartbeat(at: Timestamp, snapshotComplete: Bool)
    case log(JobID, [LogLine])
    /// Only decoded: a kind of message that this version does not know.
    case other

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> WatchResponse {
        try unsafe decode(bytes, signalbox__v1__watch_response__unpack) { message, reader in
            unsafe reader.watchResponse(message)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__watch_response__init) { message, arena in
            unsafe arena.fill(&message, with: self)
        }
    }
}

extension FieldReader {
    fileprivate mutating func watchResponse(_ message: Signalbox__V1__WatchResponse) -> WatchResponse {
        switch unsafe message.event_case {
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_SNAPSHOT:
            return unsafe .snapshot(requiredJob(message.snapshot?.pointee.job, "snapshot.job"))
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_LIFECYCLE:
            guard let event = unsafe message.lifecycle?.pointee else { return .other }
            return unsafe .lifecycle(self.event(event))
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_PROGRESS:
            guard let event = unsafe message.progress?.pointee else { return .other }
            let id = unsafe jobID(event.job_id, "progress.job_id")
            guard let progress = unsafe progress(event.progress, "progress.progress") else {
                add("progress.progress", "is required")
                return .other
            }
            return unsafe .progress(id, attempt: Int(event.attempt), progress)
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_HEARTBEAT:
            guard let heartbeat = unsafe message.heartbeat?.pointee else { return .other }
            return unsafe .heartbeat(
                at: requiredTimestamp(heartbeat.at, "heartbeat.at"),
                snapshotComplete: heartbeat.snapshot_complete != 0)
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_LOG:
            guard let log = unsafe message.log?.pointee else { return .other }
            return unsafe .log(
                jobID(log.job_id, "log.job_id"), logLines(log.n_lines, log.lines, "log.lines"))
        default:
            return .other
        }
    }

    private mutating func event(_ message: Signalbox__V1__JobEvent) -> JobEvent {
        let type = unsafe JobEventType(onWire: message.type)
        if type == nil { unsafe add("lifecycle.type", "is unknown: \(message.type.rawValue)") }
        let state = unsafe self.state(message.state, "lifecycle.state")
        if let type, type.to != state { add("lifecycle.state", "does not follow from the type") }
        return unsafe JobEvent(
            jobID: jobID(message.job_id, "lifecycle.job_id"), sequence: Int64(clamping: message.sequence),
            // No event is returned where a field is wrong.
            type: type ?? .enqueued, at: requiredTimestamp(message.at, "lifecycle.at"),
            attempt: Int(message.attempt),
            node: answerText(message.node, "lifecycle.node").nonEmpty?.text,
            error: error(message.error, "lifecycle.error"),
            dueAt: timestamp(message.due_at, "lifecycle.due_at"),
            result: result(message.result, "lifecycle.result"),
            kind: answerText(message.kind, "lifecycle.kind").text,
            userID: answerText(message.user_id, "lifecycle.user_id"),
            queue: answerText(message.queue, "lifecycle.queue").text)
    }
}

extension MessageArena {
    fileprivate func fill(_ message: inout Signalbox__V1__WatchResponse, with response: WatchResponse) {
        switch response {
        case .snapshot(let record):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_SNAPSHOT
            unsafe message.snapshot = make(signalbox__v1__job_snapshot__init) {
                unsafe $0.job = job(record, JobParts())
            }
        case .lifecycle(let event):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_LIFECYCLE
            unsafe message.lifecycle = make(signalbox__v1__job_event__init) {
                unsafe fill(&$0, with: event)
            }
        case .progress(let id, let attempt, let progress):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_PROGRESS
            unsafe message.progress = make(signalbox__v1__progress_event__init) {
                unsafe $0.job_id = text(id.description)
                unsafe $0.attempt = UInt32(clamping: attempt)
                unsafe $0.progress = self.progress(progress)
            }
        case .heartbeat(let at, let snapshotComplete):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_HEARTBEAT
            unsafe message.heartbeat = make(signalbox__v1__heartbeat__init) {
                unsafe $0.at = timestamp(at)
                unsafe $0.snapshot_complete = snapshotComplete ? 1 : 0
            }
        case .log(let id, let lines):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_LOG
            unsafe message.log = make(signalbox__v1__log_event__init) {
                unsafe $0.job_id = text(id.description)
                unsafe ($0.n_lines, $0.lines) = list(lines, signalbox__v1__log_line__init) {
                    unsafe fill(&$0, with: $1)
                }
            }
        case .other:
            break
        }
    }

    private func fill(_ message: inout Signalbox__V1__JobEvent, with event: JobEvent) {
        unsafe message.job_id = text(event.jobID.description)
        unsafe message.sequence = UInt64(clamping: event.sequence)
        unsafe message.type = event.type.onWire
        unsafe message.state = event.state.onWire
        unsafe message.at = timestamp(event.at)
        unsafe message.attempt = UInt32(clamping: event.attempt)
        unsafe message.node = text(event.node ?? "")
        if let error = event.error { unsafe message.error = self.error(error) }
        unsafe message.due_at = timestamp(event.dueAt)
        if let result = event.result { unsafe message.result = self.result(result) }
        unsafe message.kind = text(event.kind)
        unsafe message.user_id = text(event.userID)
        unsafe message.queue = text(event.queue)
    }
}
