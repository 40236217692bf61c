import CSignalboxProto
import JobModel

// The numbers of the .proto files. Nil is a value that this version does not know, or the unspecified one.

extension JobState {
    init?(onWire value: Signalbox__V1__JobState) {
        switch value {
        case SIGNALBOX__V1__JOB_STATE__JOB_STATE_PENDING: self = .pending
        case SIGNALBOX__V1__JOB_STATE__JOB_STATE_RUNNING: self = .running
        case SIGNALBOX__V1__JOB_STATE__JOB_STATE_SUCCEEDED: self = .succeeded
        case SIGNALBOX__V1__JOB_STATE__JOB_STATE_FAILED: self = .failed
        case SIGNALBOX__V1__JOB_STATE__JOB_STATE_CANCELLED: self = .cancelled
        default: return nil
        }
    }

    var onWire: Signalbox__V1__JobState {
        switch self {
        case .pending: SIGNALBOX__V1__JOB_STATE__JOB_STATE_PENDING
        case .running: SIGNALBOX__V1__JOB_STATE__JOB_STATE_RUNNING
        case .succeeded: SIGNALBOX__V1__JOB_STATE__JOB_STATE_SUCCEEDED
        case .failed: SIGNALBOX__V1__JOB_STATE__JOB_STATE_FAILED
        case .cancelled: SIGNALBOX__V1__JOB_STATE__JOB_STATE_CANCELLED
        }
    }
}

extension JobEventType {
    init?(onWire value: Signalbox__V1__JobEventType) {
        switch value {
        case SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_ENQUEUED: self = .enqueued
        case SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_STARTED: self = .started
        case SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_RETRY_SCHEDULED: self = .retryScheduled
        case SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_RELEASED: self = .released
        case SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_SUCCEEDED: self = .succeeded
        case SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_FAILED: self = .failed
        case SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_CANCELLED: self = .cancelled
        case SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_RETRIED: self = .retried
        default: return nil
        }
    }

    var onWire: Signalbox__V1__JobEventType {
        switch self {
        case .enqueued: SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_ENQUEUED
        case .started: SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_STARTED
        case .retryScheduled: SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_RETRY_SCHEDULED
        case .released: SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_RELEASED
        case .succeeded: SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_SUCCEEDED
        case .failed: SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_FAILED
        case .cancelled: SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_CANCELLED
        case .retried: SIGNALBOX__V1__JOB_EVENT_TYPE__JOB_EVENT_TYPE_RETRIED
        }
    }
}

extension Attempt.Outcome {
    init?(onWire value: Signalbox__V1__AttemptOutcome) {
        switch value {
        case SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_RUNNING: self = .running
        case SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_SUCCEEDED: self = .succeeded
        case SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_FAILED: self = .failed
        case SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_TIMED_OUT: self = .timedOut
        case SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_INTERRUPTED: self = .interrupted
        case SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_RELEASED: self = .released
        case SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_CANCELLED: self = .cancelled
        default: return nil
        }
    }

    var onWire: Signalbox__V1__AttemptOutcome {
        switch self {
        case .running: SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_RUNNING
        case .succeeded: SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_SUCCEEDED
        case .failed: SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_FAILED
        case .timedOut: SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_TIMED_OUT
        case .interrupted: SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_INTERRUPTED
        case .released: SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_RELEASED
        case .cancelled: SIGNALBOX__V1__ATTEMPT_OUTCOME__ATTEMPT_OUTCOME_CANCELLED
        }
    }
}
