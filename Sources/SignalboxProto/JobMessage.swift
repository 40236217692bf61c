import CSignalboxProto
import CProtobufC
import JobModel
import Support

// MARK: - JobSpec

/// Where a JobSpec is in its request; made into text only when something is wrong.
enum SpecPath: CustomStringConvertible {
    case job
    case jobs(Int)

    var description: String {
        switch self {
        case .job: "job"
        case .jobs(let index): "jobs[\(index)]"
        }
    }
}

extension FieldReader {
    mutating func spec(_ message: Signalbox__V1__JobSpec, at path: SpecPath) -> JobSpecDraft {
        var draft = JobSpecDraft()
        unsafe draft.kind = text(message.kind, "\(path).kind", bytesMax: JobLimits.kindBytesMax)
        unsafe draft.userID = text(
            message.user_id, "\(path).user_id", bytesMax: JobLimits.userIDBytesMax)
        unsafe draft.queue = text(message.queue, "\(path).queue", bytesMax: JobLimits.queueBytesMax)
        unsafe draft.payload = bytes(message.payload)
        unsafe draft.contentType = text(
            message.content_type, "\(path).content_type", bytesMax: JobLimits.contentTypeBytesMax)
        unsafe draft.jobID = idText(message.job_id, "\(path).job_id")
        unsafe draft.idempotencyKey = text(
            message.idempotency_key, "\(path).idempotency_key", bytesMax: JobLimits.idempotencyKeyBytesMax)
        unsafe draft.priority = Int(message.priority)
        unsafe draft.maxAttempts = Int(message.max_attempts)
        switch unsafe message.due_case {
        case SIGNALBOX__V1__JOB_SPEC__DUE_RUN_AT:
            unsafe draft.runAt = timestamp(message.run_at, "\(path).run_at")
        case SIGNALBOX__V1__JOB_SPEC__DUE_DELAY:
            unsafe draft.delay = duration(message.delay, "\(path).delay")
        default:
            break
        }
        if let policy = unsafe message.retry_policy?.pointee {
            unsafe draft.retryInitialDelay = duration(
                policy.initial_delay, "\(path).retry_policy.initial_delay")
            unsafe draft.retryFactor = policy.factor
            unsafe draft.retryMaxDelay = duration(policy.max_delay, "\(path).retry_policy.max_delay")
            unsafe draft.retryJitter = policy.jitter
        }
        unsafe draft.timeout = duration(message.timeout, "\(path).timeout")
        unsafe draft.softTimeout = duration(message.soft_timeout, "\(path).soft_timeout")
        // One more than allowed is enough to be refused.
        unsafe draft.labels = list(message.n_labels, message.labels, limit: JobLimits.labelsMax + 1) {
            unsafe label($1.key, $1.value, "\(path).labels")
        }
        return draft
    }

    mutating func label(
        _ key: ProtobufCBinaryData, _ value: ProtobufCBinaryData, _ field: @autoclosure () -> String
    ) -> (key: ExactText, value: ExactText) {
        unsafe (
            key: text(key, field(), bytesMax: JobLimits.labelKeyBytesMax),
            value: text(value, field(), bytesMax: JobLimits.labelValueBytesMax)
        )
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
        unsafe message.priority = Int32(clamping: draft.priority)
        unsafe message.max_attempts = UInt32(clamping: draft.maxAttempts)
        if let runAt = draft.runAt {
            unsafe message.due_case = SIGNALBOX__V1__JOB_SPEC__DUE_RUN_AT
            unsafe message.run_at = timestamp(runAt)
        } else if let delay = draft.delay {
            unsafe message.due_case = SIGNALBOX__V1__JOB_SPEC__DUE_DELAY
            unsafe message.delay = duration(delay)
        }
        if draft.retryInitialDelay != nil || draft.retryFactor != 0 || draft.retryMaxDelay != nil
            || draft.retryJitter != 0
        {
            unsafe message.retry_policy = make(signalbox__v1__retry_policy__init) { policy in
                unsafe policy.initial_delay = duration(draft.retryInitialDelay)
                unsafe policy.factor = draft.retryFactor
                unsafe policy.max_delay = duration(draft.retryMaxDelay)
                unsafe policy.jitter = draft.retryJitter
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

/// Which parts of a job an answer carries.
struct JobParts {
    /// Attempts and log.
    var history = false
    var result = true
    var payload = false
}

extension MessageArena {
    func job(_ record: JobRecord, _ parts: JobParts) -> UnsafeMutablePointer<Signalbox__V1__Job> {
        unsafe make(signalbox__v1__job__init) { unsafe fill(&$0, with: record, parts) }
    }

    func fill(_ message: inout Signalbox__V1__Job, with record: JobRecord, _ parts: JobParts) {
        unsafe fill(&message, with: record.spec)
        unsafe message.id = text(record.id.description)
        unsafe message.state = record.state.onWire
        unsafe message.sequence = UInt64(clamping: record.sequence)
        unsafe message.created_at = timestamp(record.createdAt)
        unsafe message.due_at = timestamp(record.dueAt)
        unsafe message.started_at = timestamp(record.startedAt)
        unsafe message.finished_at = timestamp(record.finishedAt)
        unsafe message.attempt = UInt32(clamping: record.attempt)
        unsafe message.cancel_requested = record.cancelRequested ? 1 : 0
        if let progress = record.progress { unsafe message.progress = self.progress(progress) }
        if parts.result, let result = record.result { unsafe message.result = self.result(result) }
        if let error = record.error { unsafe message.error = self.error(error) }
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
        unsafe message.max_attempts = UInt32(clamping: spec.maxAttempts)
        unsafe message.retry_policy = make(signalbox__v1__retry_policy__init) { policy in
            unsafe policy.initial_delay = duration(spec.retryPolicy.initialDelay)
            unsafe policy.factor = spec.retryPolicy.factor
            unsafe policy.max_delay = duration(spec.retryPolicy.maxDelay)
            unsafe policy.jitter = spec.retryPolicy.jitter
        }
        unsafe message.timeout = duration(spec.timeout)
        unsafe message.soft_timeout = duration(spec.softTimeout)
        // In one order, so that the same job is the same bytes.
        let labels = spec.labels.sorted { $0.key < $1.key }
        unsafe (message.n_labels, message.labels) = list(labels, signalbox__v1__job__labels_entry__init) {
            unsafe $0.key = text($1.key)
            unsafe $0.value = text($1.value)
        }
    }

    func fill(_ message: inout Signalbox__V1__LogLine, with line: LogLine) {
        unsafe message.number = UInt64(clamping: line.number)
        unsafe message.at = timestamp(line.at)
        unsafe message.attempt = UInt32(clamping: line.attempt)
        unsafe message.level = text(line.level.rawValue)
        unsafe message.message = text(line.message)
    }

    private func fill(_ message: inout Signalbox__V1__Attempt, with attempt: Attempt) {
        unsafe message.number = UInt32(clamping: attempt.number)
        unsafe message.node = text(attempt.node)
        unsafe message.started_at = timestamp(attempt.startedAt)
        unsafe message.ended_at = timestamp(attempt.endedAt)
        unsafe message.outcome = attempt.outcome.onWire
        if let error = attempt.error { unsafe message.error = self.error(error) }
    }

    func progress(_ progress: Progress) -> UnsafeMutablePointer<Signalbox__V1__Progress> {
        unsafe make(signalbox__v1__progress__init) { message in
            unsafe message.stage = text(progress.stage)
            unsafe message.fraction = progress.fraction
            unsafe message.message = text(progress.message)
            unsafe message.step = UInt32(clamping: progress.step)
            unsafe message.steps = UInt32(clamping: progress.steps)
            unsafe message.updated_at = timestamp(progress.updatedAt)
        }
    }

    func result(_ result: JobResult) -> UnsafeMutablePointer<Signalbox__V1__JobResult> {
        unsafe make(signalbox__v1__job_result__init) { message in
            unsafe message.data = bytes(result.data)
            unsafe message.content_type = text(result.contentType)
        }
    }

    func error(_ error: JobError) -> UnsafeMutablePointer<Signalbox__V1__JobError> {
        unsafe make(signalbox__v1__job_error__init) { message in
            unsafe message.reason = text(error.reason)
            unsafe message.message = text(error.message)
        }
    }
}

extension FieldReader {
    mutating func requiredJob(
        _ message: UnsafeMutablePointer<Signalbox__V1__Job>?, _ field: String = "job"
    ) -> JobRecord {
        if unsafe message == nil { add(field, "is required") }
        return unsafe job(message?.pointee ?? Signalbox__V1__Job(), field)
    }

    mutating func job(_ message: Signalbox__V1__Job, _ field: @autoclosure () -> String) -> JobRecord {
        let dueAt = unsafe requiredTimestamp(message.due_at, "\(field()).due_at")
        var spec = unsafe JobSpec(
            kind: answerText(message.kind, "\(field()).kind").text,
            userID: answerText(message.user_id, "\(field()).user_id"),
            queue: answerText(message.queue, "\(field()).queue").text, payload: bytes(message.payload),
            contentType: answerText(message.content_type, "\(field()).content_type"),
            idempotencyKey: answerText(message.idempotency_key, "\(field()).idempotency_key").nonEmpty,
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
        let labels = unsafe list(message.n_labels, message.labels) {
            unsafe (answerText($1.key, "\(field()).labels"), answerText($1.value, "\(field()).labels"))
        }
        spec.labels = Dictionary(labels, uniquingKeysWith: { _, last in last })
        var record = unsafe JobRecord(
            number: 0, id: jobID(message.id, "\(field()).id"), spec: spec,
            state: state(message.state, "\(field()).state"), sequence: Int64(clamping: message.sequence),
            createdAt: requiredTimestamp(message.created_at, "\(field()).created_at"), dueAt: dueAt,
            startedAt: timestamp(message.started_at, "\(field()).started_at"),
            finishedAt: timestamp(message.finished_at, "\(field()).finished_at"),
            attempt: Int(message.attempt), cancelRequested: message.cancel_requested != 0)
        unsafe record.progress = progress(message.progress, "\(field()).progress")
        unsafe record.result = result(message.result, "\(field()).result")
        unsafe record.error = error(message.error, "\(field()).error")
        unsafe record.attempts = list(message.n_attempts, message.attempts) {
            unsafe attempt($1, "\(field()).attempts[\($0)]")
        }
        unsafe record.log = logLines(message.n_log, message.log, "\(field()).log")
        return record
    }

    mutating func logLines(
        _ count: Int, _ lines: UnsafeMutablePointer<UnsafeMutablePointer<Signalbox__V1__LogLine>?>?,
        _ field: @autoclosure () -> String
    ) -> [LogLine] {
        unsafe list(count, lines) { index, message in
            let name = unsafe answerText(message.level, "\(field())[\(index)].level").text
            let level = LogLine.Level(rawValue: name)
            if level == nil {
                add(
                    "\(field())[\(index)].level", "is unknown: \(PrintableText.escaped(name, bytesMax: 64))")
            }
            return unsafe LogLine(
                number: Int64(clamping: message.number),
                at: requiredTimestamp(message.at, "\(field())[\(index)].at"), attempt: Int(message.attempt),
                level: level ?? .info,
                message: answerText(message.message, "\(field())[\(index)].message").text)
        }
    }

    private mutating func attempt(
        _ message: Signalbox__V1__Attempt, _ field: @autoclosure () -> String
    ) -> Attempt {
        let outcome = unsafe Attempt.Outcome(onWire: message.outcome)
        if outcome == nil { unsafe add("\(field()).outcome", "is unknown: \(message.outcome.rawValue)") }
        return unsafe Attempt(
            number: Int(message.number), node: answerText(message.node, "\(field()).node").text,
            startedAt: requiredTimestamp(message.started_at, "\(field()).started_at"),
            endedAt: timestamp(message.ended_at, "\(field()).ended_at"), outcome: outcome ?? .running,
            error: error(message.error, "\(field()).error"))
    }

    mutating func progress(
        _ message: UnsafeMutablePointer<Signalbox__V1__Progress>?, _ field: @autoclosure () -> String
    ) -> Progress? {
        guard let message = unsafe message?.pointee else { return nil }
        return unsafe Progress(
            stage: answerText(message.stage, "\(field()).stage").text, fraction: message.fraction,
            message: answerText(message.message, "\(field()).message").text, step: Int(message.step),
            steps: Int(message.steps),
            updatedAt: requiredTimestamp(message.updated_at, "\(field()).updated_at"))
    }

    mutating func result(
        _ message: UnsafeMutablePointer<Signalbox__V1__JobResult>?, _ field: @autoclosure () -> String
    ) -> JobResult? {
        guard let message = unsafe message?.pointee else { return nil }
        return unsafe JobResult(
            data: bytes(message.data),
            contentType: answerText(message.content_type, "\(field()).content_type"))
    }

    mutating func error(
        _ message: UnsafeMutablePointer<Signalbox__V1__JobError>?, _ field: @autoclosure () -> String
    ) -> JobError? {
        guard let message = unsafe message?.pointee else { return nil }
        return unsafe JobError(
            reason: answerText(message.reason, "\(field()).reason").text,
            message: answerText(message.message, "\(field()).message").text)
    }

    /// Any state for one that is unknown: then the message is refused.
    mutating func state(_ state: Signalbox__V1__JobState, _ field: @autoclosure () -> String) -> JobState {
        if let state = JobState(onWire: state) { return state }
        add(field(), "is unknown: \(state.rawValue)")
        return .pending
    }
}
