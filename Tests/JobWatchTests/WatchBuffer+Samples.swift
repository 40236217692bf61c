import JobModel
import JobWatch

// Shorter forms of updates for the tests of watches.

extension WatchBuffer {
    mutating func receive(_ event: JobEvent) {
        receive(WatchUpdate(event))
    }

    @discardableResult
    mutating func receive(progress: Progress, attempt: Int, of job: JobID) -> Bool {
        receive(WatchUpdate(of: job, attempt: attempt, progress))
    }
}

extension WatchBuffer.Action {
    static func send(_ event: JobEvent) -> WatchBuffer.Action { .send(WatchUpdate(event)) }

    static func sendProgress(_ job: JobID, attempt: Int, _ progress: Progress) -> WatchBuffer.Action {
        .send(WatchUpdate(of: job, attempt: attempt, progress))
    }
}

extension WatchUpdate {
    var event: JobEvent? {
        if case .event(let event) = content { event } else { nil }
    }
}
