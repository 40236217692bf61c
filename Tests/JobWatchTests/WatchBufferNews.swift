import JobModel
import JobWatch

// News, as the tests of watches write it.

extension WatchBuffer {
    mutating func receive(_ event: JobEvent) {
        receive(JobNews(event))
    }

    @discardableResult
    mutating func receive(progress: Progress, attempt: Int, of job: JobID) -> Bool {
        receive(JobNews(of: job, attempt: attempt, progress))
    }
}

extension WatchBuffer.Action {
    static func send(_ event: JobEvent) -> WatchBuffer.Action { .tell(JobNews(event)) }

    static func sendProgress(_ job: JobID, attempt: Int, _ progress: Progress) -> WatchBuffer.Action {
        .tell(JobNews(of: job, attempt: attempt, progress))
    }
}

extension JobNews {
    var event: JobEvent? {
        if case .event(let event) = content { event } else { nil }
    }
}
