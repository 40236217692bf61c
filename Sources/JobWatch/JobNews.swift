package import JobModel
import Synchronization

/// What watches are told of a job: one object for all of them, so that the message that each of them sends is made once.
package final class JobNews: Sendable {
    package enum Content: Sendable, Hashable {
        case event(JobEvent)
        case progress(attempt: Int, Progress)
    }

    /// What was made of some news, whatever that is.
    private final class Made: Sendable {
        let object: any AnyObject & Sendable

        init(_ object: any AnyObject & Sendable) {
            self.object = object
        }
    }

    package let content: Content
    package let job: JobID
    /// Of an event; 0: progress. Kept beside the content, which is large: every watch looks at these.
    package let sequence: Int64
    /// When it happened, or was said.
    package let at: Timestamp
    private let made = AtomicLazyReference<Made>()

    package init(_ event: JobEvent) {
        content = .event(event)
        job = event.jobID
        sequence = event.sequence
        at = event.at
    }

    package init(of job: JobID, attempt: Int, _ progress: Progress) {
        content = .progress(attempt: attempt, progress)
        self.job = job
        sequence = 0
        at = progress.updatedAt
    }

    /// What `make` makes of it; later calls get what the first has made. Calls at the same time may each make one, and
    /// all get the same.
    package func product(_ make: (JobNews) -> any AnyObject & Sendable) -> any AnyObject & Sendable {
        if let known = made.load() { return known.object }
        return made.storeIfNil(Made(make(self))).object
    }
}

extension JobNews: Equatable {
    package static func == (left: JobNews, right: JobNews) -> Bool {
        left === right || left.job == right.job && left.content == right.content
    }
}
