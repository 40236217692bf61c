package import Support

/// A job in its present state, with the part of its history that was requested.
package struct JobRecord: Sendable, Hashable {
    /// The store's number of the job. Later jobs have higher numbers.
    package var number: Int64
    package var id: JobID
    package var spec: JobSpec
    package var state: JobState
    package var sequence: Int64
    package var createdAt: Timestamp
    package var dueAt: Timestamp
    package var startedAt: Timestamp?
    package var finishedAt: Timestamp?
    package var attempt: Int
    /// The attempts of the budget that are used up, a running one included.
    package var attemptsUsed: Int
    package var cancelRequested: Bool
    package var progress: Progress?
    package var result: JobResult?
    package var error: JobError?
    package var attempts: [Attempt]
    package var log: [LogLine]

    package init(
        number: Int64, id: JobID, spec: JobSpec, state: JobState, sequence: Int64, createdAt: Timestamp,
        dueAt: Timestamp, startedAt: Timestamp? = nil, finishedAt: Timestamp? = nil, attempt: Int = 0,
        attemptsUsed: Int = 0,
        cancelRequested: Bool = false, progress: Progress? = nil, result: JobResult? = nil,
        error: JobError? = nil, attempts: [Attempt] = [], log: [LogLine] = []
    ) {
        self.number = number
        self.id = id
        self.spec = spec
        self.state = state
        self.sequence = sequence
        self.createdAt = createdAt
        self.dueAt = dueAt
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.attempt = attempt
        self.attemptsUsed = attemptsUsed
        self.cancelRequested = cancelRequested
        self.progress = progress
        self.result = result
        self.error = error
        self.attempts = attempts
        self.log = log
    }
}

/// Why an attempt or a job ended without success.
package struct JobError: Sendable, Hashable {
    /// A word for programs that the handler chose, of at most 64 bytes; empty if it chose none.
    package var reason: String
    /// A text for people, of at most 4,096 bytes.
    package var message: String
    /// Nil if this version does not know the cause.
    package var cause: FailureCause?

    /// Cuts text that is too long.
    ///
    /// - Parameter reason: the word that the handler chose. The cause's own word, such as "failed" from a handler that
    ///   failed, says nothing more than the cause, and is left out.
    package init(reason: String = "", message: String, cause: FailureCause?) {
        self.cause = cause
        // exact: the causes' words are ASCII.
        self.reason = reason == cause?.word ? "" : reason.cut(toBytes: JobLimits.errorReasonBytesMax)
        self.message = message.cut(toBytes: JobLimits.errorMessageBytesMax)
    }

    /// The handler's word, or the cause's where it chose none. The column `reason` has it, and is never empty.
    package var word: String { reason.isEmpty ? (cause ?? .handler).word : reason }
}

/// Why an attempt or a job ended without success, in the service's terms. The raw values are stored.
package enum FailureCause: String, Sendable, Hashable, CaseIterable {
    /// The handler ended with an error.
    case handler
    /// The handler ended with an error, and said that another attempt would too.
    case handlerPermanent = "handler_permanent"
    case timeout
    /// The node of the attempt died.
    case interrupted
    case cancelled
    /// The node shut down and released the run.
    case released

    /// The word for the cause among the reasons of errors. The releases before 0009_attempts knew causes by these words
    /// only, and nodes that still run them do.
    package var word: String {
        switch self {
        case .handler: "failed"
        case .handlerPermanent: "permanent"
        case .timeout, .interrupted, .cancelled, .released: rawValue
        }
    }
}

/// The result that a handler returned.
package struct JobResult: Sendable, Hashable {
    package var data: [UInt8]
    package var contentType: ExactText

    package init(data: [UInt8], contentType: ExactText) {
        self.data = data
        self.contentType = contentType
    }
}

/// The progress of a running attempt.
package struct Progress: Sendable, Hashable {
    package var stage: String
    /// The fraction of the whole attempt that is done, 0 to 1; nil: it is not known.
    package var fraction: Double?
    package var message: String
    package var done: Int64
    /// 0: units are not counted.
    package var total: Int64
    package var updatedAt: Timestamp

    /// Cuts text that is too long, and clamps the fraction to 0 to 1, because a report about the work must never
    /// fail the work.
    package init(
        stage: String, fraction: Double?, message: String, done: Int64, total: Int64, updatedAt: Timestamp
    ) {
        self.stage = stage.cut(toBytes: JobLimits.progressStageBytesMax)
        self.fraction = fraction.flatMap { $0.isNaN ? nil : min(max($0, 0), 1) }
        self.message = message.cut(toBytes: JobLimits.progressMessageBytesMax)
        self.done = max(done, 0)
        self.total = max(total, 0)
        self.updatedAt = updatedAt
    }
}

/// A line of a job's log, written by its handler.
package struct LogLine: Sendable, Hashable {
    /// The raw values are stored.
    package enum Level: String, Sendable, Hashable {
        case debug, info, warning, error
    }

    /// The number of the line within the job, from 1.
    package var number: Int64
    package var at: Timestamp
    package var attempt: Int
    /// Nil if this version does not know the level.
    package var level: Level?
    package var message: String

    package init(number: Int64, at: Timestamp, attempt: Int, level: Level?, message: String) {
        self.number = number
        self.at = at
        self.attempt = attempt
        self.level = level
        self.message = message.cut(toBytes: JobLimits.logMessageBytesMax)
    }
}

/// One run of a job.
package struct Attempt: Sendable, Hashable {
    package enum Outcome: String, Sendable, Hashable {
        case running, succeeded, failed, timedOut, interrupted, released, cancelled
    }

    package var number: Int
    package var node: String
    package var startedAt: Timestamp
    package var endedAt: Timestamp?
    /// Nil if this version does not know the outcome.
    package var outcome: Outcome?
    package var error: JobError?
    /// Whether the attempt uses up one of the budget. Only a released one does not.
    package var isCounted: Bool

    package init(
        number: Int, node: String, startedAt: Timestamp, endedAt: Timestamp?, outcome: Outcome?,
        error: JobError?, isCounted: Bool = true
    ) {
        self.isCounted = isCounted
        self.number = number
        self.node = node
        self.startedAt = startedAt
        self.endedAt = endedAt
        self.outcome = outcome
        self.error = error
    }
}

extension String {
    /// The text cut to at most `limit` bytes of UTF-8, between Unicode scalars. NUL, which text in Postgres
    /// cannot have, is replaced by U+FFFD. Text after the limit is not read.
    package func cut(toBytes limit: Int) -> String {
        guard utf8.count > limit || utf8.contains(0) else { return self }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(utf8.count, limit))
        for byte in utf8.prefix(limit + 1) {
            if byte == 0 { bytes.append(contentsOf: "\u{FFFD}".utf8) } else { bytes.append(byte) }
        }
        guard bytes.count > limit else { return String(decoding: bytes, as: UTF8.self) }
        var end = limit
        while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 }
        return String(decoding: bytes[..<end], as: UTF8.self)
    }
}
