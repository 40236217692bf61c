import Synchronization

/// What watches send of a job: an event or progress. One object is shared by all of them, so that its message is encoded
/// once.
package final class JobNews: Sendable {
    package enum Content: Sendable, Hashable {
        case event(JobEvent)
        case progress(attempt: Int, Progress)
    }

    /// The product of some news.
    private final class Made: Sendable {
        let object: any AnyObject & Sendable

        init(_ object: any AnyObject & Sendable) {
            self.object = object
        }
    }

    package let content: Content
    package let job: JobID
    /// The sequence of an event; 0 for progress. Copied from the content, which is large, because every watch reads it.
    package let sequence: Int64
    /// When it happened, or was reported.
    package let at: Timestamp
    private let made = AtomicLazyReference<Made>()
    private let nodeless = AtomicLazyReference<JobNews>()

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

    /// What `make` returns. It is called once, except that calls at the same time may each call it; all get the same
    /// object.
    package func product(_ make: (JobNews) -> any AnyObject & Sendable) -> any AnyObject & Sendable {
        if let known = made.load() { return known.object }
        return made.storeIfNil(Made(make(self))).object
    }

    /// The news without the name of the node, as one object for all watches that may not see it.
    package func withoutNode() -> JobNews {
        guard case .event(var event) = content, event.node != nil else { return self }
        if let known = nodeless.load() { return known }
        event.node = nil
        return nodeless.storeIfNil(JobNews(event))
    }
}

extension JobNews: Equatable {
    package static func == (left: JobNews, right: JobNews) -> Bool {
        left === right || left.job == right.job && left.content == right.content
    }
}
