package import Foundation
package import JobModel
package import Support

// The public types from those of the domain, and back: the remote client and the embedded server share it.

extension Job {
    /// - Parameter hasPayload: the record has the payload; it is left out otherwise.
    package init(_ record: JobRecord, hasPayload: Bool = false) {
        let spec = record.spec
        self.init(
            id: record.id.uuid, kind: spec.kind, userID: spec.userID.text, queue: spec.queue,
            priority: spec.priority, state: JobState(record.state), sequence: Int(record.sequence),
            createdAt: Date(record.createdAt), dueAt: Date(record.dueAt),
            startedAt: record.startedAt.map { Date($0) }, finishedAt: record.finishedAt.map { Date($0) },
            attempt: record.attempt, attemptsUsed: record.attemptsUsed, maxAttempts: spec.maxAttempts,
            retryPolicy: JobRequest.RetryPolicy(
                initialDelay: spec.retryPolicy.initialDelay, factor: spec.retryPolicy.factor,
                maxDelay: spec.retryPolicy.maxDelay, jitter: spec.retryPolicy.jitter),
            timeout: spec.timeout, softTimeout: spec.softTimeout,
            labels: Dictionary(
                spec.labels.map { ($0.key.text, $0.value.text) }, uniquingKeysWith: { first, _ in first }),
            idempotencyKey: spec.idempotencyKey?.text, isCancelRequested: record.cancelRequested,
            progress: record.progress.map { Progress($0) }, result: record.result.map { JobPayload($0) },
            failure: record.error.map { Failure($0) }, attempts: record.attempts.map { Attempt($0) },
            log: record.log.map { LogLine($0) },
            payload: hasPayload ? JobPayload(spec.payload, contentType: spec.contentType.text) : nil)
    }
}

/// The `expected_sequence` of a request, in which 0 stands for any. The caller's 0 is refused: it would change a job of any
/// sequence.
package func expectedSequence(_ sequence: Int?) throws(SignalboxError) -> Int64 {
    guard let sequence else { return 0 }
    guard sequence > 0 else {
        throw SignalboxError(
            .invalidArgument,
            "the expected sequence is \(sequence): sequences begin at 1; nil stands for any",
            violations: [
                .init(field: "expected_sequence", reason: "OUT_OF_RANGE", description: "must be 1 or more")
            ])
    }
    return Int64(sequence)
}

extension Job.Progress {
    package init(_ progress: JobModel.Progress) {
        self.init(
            stage: progress.stage, fraction: progress.fraction, message: progress.message,
            done: Int(progress.done), total: Int(progress.total), updatedAt: Date(progress.updatedAt))
    }
}

extension Job.Failure {
    package init(_ error: JobError) {
        self.init(cause: error.cause.map { Cause($0) }, reason: error.reason, message: error.message)
    }
}

extension Job.Failure.Cause {
    fileprivate init(_ cause: FailureCause) {
        switch cause {
        case .handler: self = .handler
        case .handlerPermanent: self = .handlerPermanent
        case .timeout: self = .timeout
        case .interrupted: self = .interrupted
        case .cancelled: self = .cancelled
        case .released: self = .released
        }
    }
}

extension Job.LogLine {
    package init(_ line: JobModel.LogLine) {
        self.init(
            number: Int(line.number), at: Date(line.at), attempt: line.attempt,
            level: line.level.map { JobLogLevel($0) }, message: line.message)
    }
}

extension Job.Attempt {
    package init(_ attempt: JobModel.Attempt) {
        let outcome: Outcome? =
            switch attempt.outcome {
            case nil: nil
            case .running: .running
            case .succeeded: .succeeded
            case .failed: .failed
            case .timedOut: .timedOut
            case .interrupted: .interrupted
            case .released: .released
            case .cancelled: .cancelled
            }
        self.init(
            number: attempt.number, node: attempt.node, startedAt: Date(attempt.startedAt),
            endedAt: attempt.endedAt.map { Date($0) }, outcome: outcome,
            failure: attempt.error.map { Job.Failure($0) }, isCounted: attempt.isCounted)
    }
}

extension JobPayload {
    package init(_ result: JobResult) {
        self.init(result.data, contentType: result.contentType.text)
    }
}

extension JobState {
    package init(_ state: JobModel.JobState) {
        switch state {
        case .pending: self = .pending
        case .running: self = .running
        case .succeeded: self = .succeeded
        case .failed: self = .failed
        case .cancelled: self = .cancelled
        }
    }

    package var ofDomain: JobModel.JobState {
        switch self {
        case .pending: .pending
        case .running: .running
        case .succeeded: .succeeded
        case .failed: .failed
        case .cancelled: .cancelled
        }
    }
}

extension JobEvent {
    package init(_ event: JobModel.JobEvent) {
        let kind: Kind? =
            switch event.type {
            case nil: nil
            case .enqueued: .enqueued
            case .started: .started
            case .retryScheduled: .retryScheduled
            case .released: .released
            case .succeeded: .succeeded
            case .failed: .failed
            case .cancelled: .cancelled
            case .retried: .retried
            case .cancelRequested: .cancelRequested
            }
        self.init(
            jobID: event.jobID.uuid, sequence: Int(event.sequence), kind: kind, state: JobState(event.state),
            at: Date(event.at), attempt: event.attempt, node: event.node,
            failure: event.error.map { Job.Failure($0) }, dueAt: event.dueAt.map { Date($0) },
            result: event.result.map { JobPayload($0) }, jobKind: event.kind, userID: event.userID.text,
            queue: event.queue)
    }
}

extension EnqueuedJob {
    package init(_ record: JobRecord, _ disposition: JobModel.EnqueueDisposition?, isNew: Bool) {
        self.init(job: Job(record), disposition: disposition.map { EnqueueDisposition($0) }, isNew: isNew)
    }
}

extension EnqueuedID {
    package init(_ id: JobID, sequence: Int64, _ disposition: JobModel.EnqueueDisposition?, isNew: Bool) {
        self.init(
            id: id.uuid, sequence: Int(sequence), disposition: disposition.map { EnqueueDisposition($0) },
            isNew: isNew)
    }
}

extension EnqueueDisposition {
    fileprivate init(_ disposition: JobModel.EnqueueDisposition) {
        switch disposition {
        case .created: self = .created
        case .sameRequest: self = .sameRequest
        }
    }
}

extension Page {
    package init(_ elements: [Element], nextToken: ExactText) {
        self.init(elements: elements, nextToken: nextToken.nonEmpty?.text)
    }
}

extension JobRequest {
    /// The request as the service checks it.
    package var draft: JobSpecDraft {
        var draft = JobSpecDraft()
        draft.kind = ExactText(kind)
        draft.userID = ExactText(userID)
        draft.queue = ExactText(queue ?? "")
        draft.payload = [UInt8](payload.data)
        draft.contentType = ExactText(payload.contentType)
        draft.jobID = ExactText(id.map { JobID($0).description } ?? "")
        draft.idempotencyKey = ExactText(idempotencyKey ?? "")
        draft.priority = priority
        switch due {
        case .now: break
        case .after(let delay): draft.delay = delay
        case .at(let date): draft.runAt = Timestamp(date)
        }
        draft.maxAttempts = maxAttempts ?? 0
        if let retryPolicy {
            draft.retryInitialDelay = retryPolicy.initialDelay
            draft.retryFactor = retryPolicy.factor
            draft.retryMaxDelay = retryPolicy.maxDelay
            draft.retryJitter = retryPolicy.jitter
        }
        draft.timeout = timeout
        draft.softTimeout = softTimeout
        draft.labels = labels.map { (ExactText($0.key), ExactText($0.value)) }
        return draft
    }

    /// Whether the service takes it once, however often it is sent.
    package var isIdempotent: Bool { id != nil || idempotencyKey?.isEmpty == false }

    /// The request with a new id, where nothing else makes it idempotent.
    package var withID: JobRequest {
        guard !isIdempotent else { return self }
        var request = self
        request.id = JobID.version7(at: .now).uuid
        return request
    }
}

extension Date {
    package init(_ timestamp: Timestamp) {
        self.init(timeIntervalSince1970: Double(timestamp.microseconds) / 1e6)
    }
}

extension Timestamp {
    /// The nearest moment that the service can name: a date of other millennia is moved to them.
    package init(_ date: Date) {
        let seconds = date.timeIntervalSince1970
        let clamped = seconds.isNaN ? 0 : min(max(seconds, -62_135_596_800), 253_402_300_799)
        self.init(microseconds: Int64((clamped * 1e6).rounded()))
    }
}
