import CSignalboxProto
import CProtobufC
package import JobModel
package import NIOCore
import Support

// The mapping of jobs between messages and the domain. The two have other shapes, so this is written by hand: a new
// field of a job is read and written here.

// MARK: - JobSpec

extension FieldReader {
    /// A job as a caller describes it. Only what is wrong in itself is refused; `JobSpecDraft.validated` checks the rest.
    mutating func jobSpec(
        _ message: Signalbox__V1__JobSpec, _ field: @autoclosure () -> String
    ) -> JobSpecDraft {
        var draft = JobSpecDraft()
        unsafe draft.kind = text(message.kind, "\(field()).kind", bytesMax: JobLimits.kindBytesMax)
        unsafe draft.userID = text(
            message.user_id, "\(field()).user_id", bytesMax: JobLimits.userIDBytesMax)
        unsafe draft.queue = text(message.queue, "\(field()).queue", bytesMax: JobLimits.queueBytesMax)
        unsafe draft.payload = bytes(message.payload)
        unsafe draft.contentType = text(
            message.content_type, "\(field()).content_type", bytesMax: JobLimits.contentTypeBytesMax)
        unsafe draft.jobID = idText(message.job_id, "\(field()).job_id")
        unsafe draft.idempotencyKey = text(
            message.idempotency_key, "\(field()).idempotency_key", bytesMax: JobLimits.idempotencyKeyBytesMax)
        if unsafe message._priority_case == SIGNALBOX__V1__JOB_SPEC___PRIORITY_PRIORITY {
            unsafe draft.priority = Int(message.priority)
        }
        unsafe draft.maxAttempts = Int(message.max_attempts)
        switch unsafe message.due_case {
        case SIGNALBOX__V1__JOB_SPEC__DUE_RUN_AT:
            unsafe draft.runAt = timestamp(message.run_at, "\(field()).run_at")
        case SIGNALBOX__V1__JOB_SPEC__DUE_DELAY:
            unsafe draft.delay = duration(message.delay, "\(field()).delay")
        default:
            break
        }
        if let policy = unsafe message.retry_policy?.pointee {
            unsafe draft.retryInitialDelay = duration(
                policy.initial_delay, "\(field()).retry_policy.initial_delay")
            if unsafe policy._factor_case == SIGNALBOX__V1__RETRY_POLICY___FACTOR_FACTOR {
                unsafe draft.retryFactor = policy.factor
            }
            unsafe draft.retryMaxDelay = duration(policy.max_delay, "\(field()).retry_policy.max_delay")
            if unsafe policy._jitter_case == SIGNALBOX__V1__RETRY_POLICY___JITTER_JITTER {
                unsafe draft.retryJitter = policy.jitter
            }
        }
        unsafe draft.timeout = duration(message.timeout, "\(field()).timeout")
        unsafe draft.softTimeout = duration(message.soft_timeout, "\(field()).soft_timeout")
        // Reads one label more than is allowed, so that `validated` refuses the job.
        unsafe draft.labels = list(message.n_labels, message.labels, limit: JobLimits.labelsMax + 1) {
            unsafe label($1.key, $1.value, "\(field()).labels")
        }
        return draft
    }
}

extension MessageArena {
    func fill(_ message: inout Signalbox__V1__JobSpec, with draft: JobSpecDraft) {
        unsafe message.kind = text(draft.kind)
        unsafe message.user_id = text(draft.userID)
        unsafe message.queue = text(draft.queue)
        unsafe message.payload = bytes(draft.payload)
        unsafe message.content_type = text(draft.contentType)
        unsafe message.job_id = text(draft.jobID)
        unsafe message.idempotency_key = text(draft.idempotencyKey)
        if let priority = draft.priority {
            unsafe message._priority_case = SIGNALBOX__V1__JOB_SPEC___PRIORITY_PRIORITY
            unsafe message.priority = Int32(clamping: priority)
        }
        unsafe message.max_attempts = Int32(clamping: draft.maxAttempts)
        if let runAt = draft.runAt {
            unsafe message.due_case = SIGNALBOX__V1__JOB_SPEC__DUE_RUN_AT
            unsafe message.run_at = timestamp(runAt)
        } else if let delay = draft.delay {
            unsafe message.due_case = SIGNALBOX__V1__JOB_SPEC__DUE_DELAY
            unsafe message.delay = duration(delay)
        }
        if draft.retryInitialDelay != nil || draft.retryFactor != nil || draft.retryMaxDelay != nil
            || draft.retryJitter != nil
        {
            unsafe message.retry_policy = make(signalbox__v1__retry_policy__init) { policy in
                unsafe policy.initial_delay = duration(draft.retryInitialDelay)
                unsafe policy.max_delay = duration(draft.retryMaxDelay)
                if let factor = draft.retryFactor { unsafe policy.set(factor: factor) }
                if let jitter = draft.retryJitter { unsafe policy.set(jitter: jitter) }
            }
        }
        unsafe message.timeout = duration(draft.timeout)
        unsafe message.soft_timeout = duration(draft.softTimeout)
        unsafe (message.n_labels, message.labels) = list(
            draft.labels, signalbox__v1__job_spec__labels_entry__init
        ) { entry, label in
            unsafe entry.key = text(label.key)
            unsafe entry.value = text(label.value)
        }
    }
}

// MARK: - Job

/// The parts of a job that a response carries.
struct JobParts {
    /// The attempts and the log.
    var history = false
    var result = true
    var payload = false
}

extension MessageArena {
    func fill(
        _ message: inout Signalbox__V1__Job, with record: JobRecord, _ parts: JobParts = JobParts()
    ) {
        unsafe fill(&message, with: record.spec)
        unsafe message.id = text(record.id.description)
        unsafe message.state = record.state.onWire
        unsafe message.sequence = record.sequence
        unsafe message.created_at = timestamp(record.createdAt)
        unsafe message.due_at = timestamp(record.dueAt)
        unsafe message.started_at = timestamp(record.startedAt)
        unsafe message.finished_at = timestamp(record.finishedAt)
        unsafe message.attempt = Int32(clamping: record.attempt)
        unsafe message.attempts_used = Int32(clamping: record.attemptsUsed)
        unsafe message.cancel_requested = record.cancelRequested ? 1 : 0
        if let progress = record.progress {
            unsafe message.progress = make(signalbox__v1__progress__init) { unsafe fill(&$0, with: progress) }
        }
        if parts.result, let result = record.result {
            unsafe message.result = make(signalbox__v1__job_result__init) { unsafe fill(&$0, with: result) }
        }
        if let error = record.error {
            unsafe message.error = make(signalbox__v1__job_error__init) { unsafe fill(&$0, with: error) }
        }
        if parts.payload { unsafe message.payload = bytes(record.spec.payload) }
        guard parts.history else { return }
        unsafe (message.n_attempts, message.attempts) = list(
            record.attempts, signalbox__v1__attempt__init
        ) { unsafe fill(&$0, with: $1) }
        unsafe (message.n_log, message.log) = list(record.log, signalbox__v1__log_line__init) {
            unsafe fill(&$0, with: $1)
        }
    }

    private func fill(_ message: inout Signalbox__V1__Job, with spec: JobSpec) {
        unsafe message.kind = text(spec.kind)
        unsafe message.user_id = text(spec.userID)
        unsafe message.queue = text(spec.queue)
        unsafe message.content_type = text(spec.contentType)
        unsafe message.idempotency_key = text(spec.idempotencyKey ?? "")
        unsafe message.priority = Int32(clamping: spec.priority)
        unsafe message.max_attempts = Int32(clamping: spec.maxAttempts)
        unsafe message.retry_policy = make(signalbox__v1__retry_policy__init) { policy in
            unsafe policy.initial_delay = duration(spec.retryPolicy.initialDelay)
            unsafe policy.set(factor: spec.retryPolicy.factor)
            unsafe policy.max_delay = duration(spec.retryPolicy.maxDelay)
            unsafe policy.set(jitter: spec.retryPolicy.jitter)
        }
        unsafe message.timeout = duration(spec.timeout)
        unsafe message.soft_timeout = duration(spec.softTimeout)
        // Labels are sorted, so that equal jobs are encoded to equal bytes.
        let labels = spec.labels.sorted { $0.key < $1.key }
        unsafe (message.n_labels, message.labels) = list(labels, signalbox__v1__job__labels_entry__init) {
            unsafe $0.key = text($1.key)
            unsafe $0.value = text($1.value)
        }
    }
}

extension FieldReader {
    /// A job that was decoded has the number 0, is due `.at` its due time, and has no `spec.jobID`: messages do not carry
    /// these.
    mutating func job(_ message: Signalbox__V1__Job, _ field: @autoclosure () -> String) -> JobRecord {
        let dueAt = unsafe requiredTimestamp(message.due_at, "\(field()).due_at")
        var spec = unsafe JobSpec(
            kind: answer(message.kind, "\(field()).kind"),
            userID: answer(message.user_id, "\(field()).user_id"),
            queue: answer(message.queue, "\(field()).queue"), payload: bytes(message.payload),
            contentType: answer(message.content_type, "\(field()).content_type"),
            idempotencyKey: nonEmptyAnswer(message.idempotency_key, "\(field()).idempotency_key"),
            priority: Int(message.priority), due: .at(dueAt), maxAttempts: Int(message.max_attempts),
            timeout: duration(message.timeout, "\(field()).timeout"),
            softTimeout: duration(message.soft_timeout, "\(field()).soft_timeout"))
        if let policy = unsafe message.retry_policy?.pointee {
            let name = "\(field()).retry_policy"
            unsafe spec.retryPolicy = RetryPolicy(
                initialDelay: duration(policy.initial_delay, "\(name).initial_delay") ?? .zero,
                factor: policy.factor,
                maxDelay: duration(policy.max_delay, "\(name).max_delay") ?? .zero, jitter: policy.jitter)
        }
        let labels: [(ExactText, ExactText)] = unsafe list(message.n_labels, message.labels) {
            unsafe (answer($1.key, "\(field()).labels"), answer($1.value, "\(field()).labels"))
        }
        spec.labels = Dictionary(labels, uniquingKeysWith: { _, last in last })
        var record = unsafe JobRecord(
            number: 0, id: answer(message.id, "\(field()).id"), spec: spec,
            state: known(message.state, "\(field()).state"), sequence: message.sequence,
            createdAt: requiredTimestamp(message.created_at, "\(field()).created_at"), dueAt: dueAt,
            startedAt: timestamp(message.started_at, "\(field()).started_at"),
            finishedAt: timestamp(message.finished_at, "\(field()).finished_at"),
            attempt: Int(message.attempt), attemptsUsed: Int(message.attempts_used),
            cancelRequested: message.cancel_requested != 0)
        unsafe record.progress = optional(message.progress) {
            unsafe $1.progress($0, "\(field()).progress")
        }
        unsafe record.result = optional(message.result) { unsafe $1.jobResult($0, "\(field()).result") }
        unsafe record.error = optional(message.error) { unsafe $1.jobError($0, "\(field()).error") }
        unsafe record.attempts = list(message.n_attempts, message.attempts) {
            unsafe attempt($1, "\(field()).attempts[\($0)]")
        }
        unsafe record.log = list(message.n_log, message.log) {
            unsafe logLine($1, "\(field()).log[\($0)]")
        }
        return record
    }
}

extension Signalbox__V1__RetryPolicy {
    fileprivate mutating func set(factor: Double) {
        unsafe _factor_case = SIGNALBOX__V1__RETRY_POLICY___FACTOR_FACTOR
        unsafe self.factor = factor
    }

    fileprivate mutating func set(jitter: Double) {
        unsafe _jitter_case = SIGNALBOX__V1__RETRY_POLICY___JITTER_JITTER
        unsafe self.jitter = jitter
    }
}

// MARK: - GetJobResponse

/// The job with its attempts and its log.
package struct GetJobResponse: ResponseMessage, Hashable {
    package var job: JobRecord
    /// Whether encoding writes the payload. Decoding sets it when there is one.
    package var includePayload: Bool

    package init(job: JobRecord, includePayload: Bool) {
        self.job = job
        self.includePayload = includePayload
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> GetJobResponse {
        try unsafe decode(bytes, signalbox__v1__get_job_response__unpack) { message, reader in
            let job = unsafe reader.required(message.job, Signalbox__V1__Job(), "job") {
                unsafe $1.job($0, "job")
            }
            return GetJobResponse(job: job, includePayload: !job.spec.payload.isEmpty)
        }
    }

    package static func json(_ bytes: ByteBuffer, in field: String?) throws(DecodingError) -> [String] {
        try unsafe json(bytes, signalbox__v1__get_job_response__unpack, in: field)
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__get_job_response__init) { message, arena in
            unsafe message.job = arena.make(signalbox__v1__job__init) {
                unsafe arena.fill(&$0, with: job, JobParts(history: true, payload: includePayload))
            }
        }
    }
}
