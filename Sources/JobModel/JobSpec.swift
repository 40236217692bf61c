package import Support

/// A job as a caller asked for it, checked and with its defaults filled in (`JobSpecDraft.validated`).
package struct JobSpec: Sendable, Hashable {
    package var kind: String
    package var userID: ExactText
    package var queue: String
    package var payload: [UInt8]
    package var contentType: ExactText
    /// The id that the caller gave; nil: the server makes one.
    package var jobID: JobID?
    package var idempotencyKey: ExactText?
    /// The priority, −100 to 100; higher ones first.
    package var priority: Int
    package var due: Due
    package var maxAttempts: Int
    package var retryPolicy: RetryPolicy
    /// The hard timeout of an attempt; nil: the kind's own, which is filled in when a run starts.
    package var timeout: Duration?
    package var softTimeout: Duration?
    package var labels: [ExactText: ExactText]

    /// The attempts of the budget that are used up, without those that were released: 0 before the first and after
    /// a Retry.
    ///
    /// - Parameters:
    ///   - attempt: the number of the latest attempt. It counts every start.
    ///   - lastAttempt: the number of the last attempt that the budget allows. Each released attempt raises it by 1.
    package func attemptsUsed(attempt: Int, lastAttempt: Int) -> Int {
        maxAttempts - (lastAttempt - attempt)
    }

    /// The approximate bytes that the spec takes in memory while it waits to be written.
    package var bytes: Int {
        var bytes = 512 + payload.count + contentType.utf8.count + (idempotencyKey?.utf8.count ?? 0)
        for (key, value) in labels { bytes += 64 + key.utf8.count + value.utf8.count }
        return bytes
    }

    /// The earliest start of a job.
    package enum Due: Sendable, Hashable {
        /// The time after the commit.
        case after(Duration)
        case at(Timestamp)
    }

    package init(
        kind: String, userID: ExactText, queue: String = JobLimits.defaultQueue, payload: [UInt8] = [],
        contentType: ExactText = JobLimits.defaultContentType, jobID: JobID? = nil,
        idempotencyKey: ExactText? = nil, priority: Int = 0, due: Due = .after(.zero),
        maxAttempts: Int = JobLimits.maxAttemptsDefault, retryPolicy: RetryPolicy = RetryPolicy(),
        timeout: Duration? = nil, softTimeout: Duration? = nil, labels: [ExactText: ExactText] = [:]
    ) {
        self.kind = kind
        self.userID = userID
        self.queue = queue
        self.payload = payload
        self.contentType = contentType
        self.jobID = jobID
        self.idempotencyKey = idempotencyKey
        self.priority = priority
        self.due = due
        self.maxAttempts = maxAttempts
        self.retryPolicy = retryPolicy
        self.timeout = timeout
        self.softTimeout = softTimeout
        self.labels = labels
    }
}

/// The delays before the next attempt.
package struct RetryPolicy: Sendable, Hashable {
    package var initialDelay: Duration
    package var factor: Double
    package var maxDelay: Duration
    /// The largest share of a delay by which it is randomly lengthened or shortened, 0 to 1.
    package var jitter: Double

    package init(
        initialDelay: Duration = .seconds(5), factor: Double = 2, maxDelay: Duration = .seconds(3600),
        jitter: Double = 0
    ) {
        self.initialDelay = initialDelay
        self.factor = factor
        self.maxDelay = maxDelay
        self.jitter = jitter
    }

    /// The delay after the `failures`-th failure (from 1). `random` is in 0 ..< 1.
    package func delay(afterFailures failures: Int, random: Double) -> Duration {
        let exponent = Double(max(0, failures - 1))
        let longest = maxDelay.seconds
        // Zero times infinity is not a number.
        var seconds = initialDelay == .zero ? 0 : initialDelay.seconds * pow(factor, exponent)
        seconds = min(seconds, longest)
        seconds += seconds * jitter * (2 * random - 1)
        return .milliseconds(Int64((min(max(0, seconds), longest) * 1000).rounded()))
    }

    /// Raises `base` to a whole power, or returns infinity. It needs no libm, because the exponent is at most 99.
    private func pow(_ base: Double, _ exponent: Double) -> Double {
        var result = 1.0
        for _ in 0..<Int(exponent) where result.isFinite { result *= base }
        return result
    }
}

/// The policy for a run whose node died.
package enum Interruption: String, Sendable, Hashable, CaseIterable {
    /// The job is queued again.
    case retry
    /// The job fails, with the cause `interrupted`.
    case fail
}

/// The limits that the API documents. Sizes are in bytes.
package enum JobLimits {
    /// The length of a UUID's text form.
    package static let jobIDBytes = 36
    package static let kindBytesMax = 128
    package static let queueBytesMax = 128
    package static let userIDBytesMax = 256
    package static let payloadBytesMax = 1 << 20
    package static let contentTypeBytesMax = 128
    package static let idempotencyKeyBytesMax = 256
    package static let priorityRange = -100...100
    package static let attemptsRange = 1...100
    package static let maxAttemptsDefault = 3
    package static let delayMax: Duration = .seconds(10 * 366 * 86_400)
    package static let retryDelayMax: Duration = .seconds(30 * 86_400)
    package static let timeoutMin: Duration = .milliseconds(1)
    package static let timeoutMax: Duration = .seconds(30 * 86_400)
    package static let factorRange = 1.0...100.0
    package static let labelsMax = 32
    package static let labelKeyBytesMax = 63
    package static let labelValueBytesMax = 256
    package static let batchJobsMax = 10_000
    /// The most bytes of a request with a batch. Where a batch is not a message, its payloads together count.
    package static let batchBytesMax = 4 << 20
    package static let cancelNoteBytesMax = 1024
    /// The limit of a page token in a request. Those that the server makes are shorter.
    package static let pageTokenBytesMax = 256
    package static let pageSizeDefault = 50
    package static let pageSizeMax = 1000
    /// The largest page of a job's attempts or log lines.
    package static let historyPageSizeMax = 500
    /// The largest page of queues whose jobs are counted.
    package static let countedQueuesMax = 100
    /// The most live jobs that are counted in each queue and state.
    package static let jobsCountedMax = 10_000
    package static let listLabelsMax = 8
    package static let listKindsMax = 32
    /// The limit of a resume token in a request. Those that the server makes are shorter.
    package static let resumeTokenBytesMax = 16 << 10
    package static let watchedJobsMax = 1000
    package static let userLimitMax = 100_000
    /// The most queues in which one user can have jobs, since one row is kept for each.
    package static let queuesPerUserMax = 10_000
    package static let userLimitDefault = 3
    /// The largest quota of pending jobs: for a user with a quota, no more are counted.
    package static let pendingQuotaMax = 100_000
    package static let resultBytesMax = 1 << 20
    /// The largest result in an event of a watch. A larger one is left out.
    package static let eventResultBytesMax = 64 << 10
    package static let checkpointBytesMax = 256 << 10
    package static let logLinesKept = 200
    package static let logMessageBytesMax = 4096
    package static let progressStageBytesMax = 128
    package static let progressMessageBytesMax = 1024
    package static let errorReasonBytesMax = 64
    package static let errorMessageBytesMax = 4096
    /// The last attempts of a job that are returned with it, and the most bytes of each one's message.
    package static let attemptsReturnedMax = 100
    package static let attemptMessageBytesMax = 1024
    /// The most rows of a job's history that are read at once.
    package static let historyRowsMax = 1000

    package static let defaultQueue = "default"
    package static let defaultContentType: ExactText = "application/json"
}
