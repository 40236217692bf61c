import FoundationEssentials
import JobModel
import Support

// The messages of signalbox.v1 as `--json` prints them: their field names, times and durations as
// protobuf's JSON mapping writes them, numbers as numbers, enum values without their prefix.

struct JobView: Encodable {
    let id: String
    let kind: String
    let userId: String
    let queue: String
    let priority: Int
    let state: String
    let sequence: Int64
    let createdAt: String
    let dueAt: String
    let startedAt: String?
    let finishedAt: String?
    let attempt: Int
    let maxAttempts: Int
    let labels: [String: String]
    let idempotencyKey: String?
    let cancelRequested: Bool
    let progress: ProgressView?
    let result: ResultView?
    let error: ErrorView?
    let contentType: String
    let retryPolicy: RetryPolicyView
    let timeout: String?
    let softTimeout: String?
    let attempts: [AttemptView]?
    let log: [LogLineView]?
    let payload: ContentView?

    init(_ job: JobRecord, history: Bool = false, payload showsPayload: Bool = false) {
        id = job.id.description
        kind = job.spec.kind
        userId = job.spec.userID.text
        queue = job.spec.queue
        priority = job.spec.priority
        state = job.state.word
        sequence = job.sequence
        createdAt = job.createdAt.text
        dueAt = job.dueAt.text
        startedAt = job.startedAt?.text
        finishedAt = job.finishedAt?.text
        attempt = job.attempt
        maxAttempts = job.spec.maxAttempts
        // Foundation would write only one of two equivalent spellings of a key.
        labels = Dictionary(
            job.spec.labels.map { ($0.key.text, $0.value.text) }, uniquingKeysWith: { _, last in last })
        idempotencyKey = job.spec.idempotencyKey?.text
        cancelRequested = job.cancelRequested
        progress = job.progress.map(ProgressView.init)
        result = job.result.map(ResultView.init)
        error = job.error.map(ErrorView.init)
        contentType = job.spec.contentType.text
        retryPolicy = RetryPolicyView(job.spec.retryPolicy)
        timeout = job.spec.timeout?.text
        softTimeout = job.spec.softTimeout?.text
        attempts = history ? job.attempts.map(AttemptView.init) : nil
        log = history ? job.log.map(LogLineView.init) : nil
        payload = showsPayload ? ContentView(job.spec.payload, contentType: job.spec.contentType) : nil
    }
}

struct EnqueuedView: Encodable {
    let created: Bool
    let job: JobView
}

struct ProgressView: Encodable {
    let stage: String
    let fraction: Double?
    let message: String
    let done: Int64
    let total: Int64
    let updatedAt: String

    init(_ progress: Progress) {
        stage = progress.stage
        fraction = progress.fraction
        message = progress.message
        done = progress.done
        total = progress.total
        updatedAt = progress.updatedAt.text
    }
}

struct ErrorView: Encodable {
    let reason: String
    let message: String

    init(_ error: JobError) {
        reason = error.reason
        message = error.message
    }
}

struct RetryPolicyView: Encodable {
    let initialDelay: String
    let factor: Double
    let maxDelay: String
    let jitter: Double

    init(_ policy: RetryPolicy) {
        initialDelay = policy.initialDelay.text
        factor = policy.factor
        maxDelay = policy.maxDelay.text
        jitter = policy.jitter
    }
}

struct AttemptView: Encodable {
    let number: Int
    let node: String?
    let startedAt: String
    let endedAt: String?
    let outcome: String
    let error: ErrorView?

    init(_ attempt: Attempt) {
        number = attempt.number
        node = attempt.node.utf8.isEmpty ? nil : attempt.node
        startedAt = attempt.startedAt.text
        endedAt = attempt.endedAt?.text
        outcome = attempt.outcome.word
        error = attempt.error.map(ErrorView.init)
    }
}

struct LogLineView: Encodable {
    let number: Int64
    let at: String
    let attempt: Int
    let level: String
    let message: String

    init(_ line: LogLine) {
        number = line.number
        at = line.at.text
        attempt = line.attempt
        level = line.level.rawValue
        message = line.message
    }
}

/// Bytes as JSON, text or base64, whichever shows them best.
struct ContentView: Encodable {
    /// The value itself, if the media type is JSON and the bytes are valid JSON.
    let json: RawJSON?
    let text: String?
    let base64: String?

    /// Nil if there are no bytes.
    init?(_ bytes: [UInt8], contentType: ExactText) {
        if bytes.isEmpty { return nil }
        let value = MediaType.isJSON(contentType) ? RawJSON(bytes) : nil
        let string = value == nil ? String(validating: bytes, as: UTF8.self) : nil
        json = value
        text = string
        base64 = value == nil && string == nil ? Data(bytes).base64EncodedString() : nil
    }
}

struct ResultView: Encodable {
    let contentType: String
    let json: RawJSON?
    let text: String?
    let base64: String?

    init(_ result: JobResult) {
        let content = ContentView(result.data, contentType: result.contentType)
        contentType = result.contentType.text
        json = content?.json
        text = content?.text
        base64 = content?.base64
    }
}
