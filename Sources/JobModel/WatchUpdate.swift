import Synchronization

/// A message that watches send about a job: an event, progress, or that the job is gone. All watches share one object,
/// so that the message is encoded once.
package final class WatchUpdate: Sendable {
    package enum Content: Sendable, Hashable {
        case event(JobEvent)
        case progress(attempt: Int, Progress)
        /// The job does not exist, or does not any more.
        case removed
    }

    /// The cached product of a message.
    private final class Made: Sendable {
        let object: any AnyObject & Sendable

        init(_ object: any AnyObject & Sendable) {
            self.object = object
        }
    }

    package let content: Content
    package let job: JobID
    /// The sequence of an event; 0 for anything else. It is a copy from the content, which is large, because every
    /// watch reads it.
    package let sequence: Int64
    /// The time at which the event happened or the progress was reported. 0 for a removal.
    package let at: Timestamp
    private let made = AtomicLazyReference<Made>()
    private let nodeless = AtomicLazyReference<WatchUpdate>()

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

    package init(removed job: JobID) {
        content = .removed
        self.job = job
        sequence = 0
        at = Timestamp(microseconds: 0)
    }

    package var isProgress: Bool {
        if case .progress = content { true } else { false }
    }

    /// The object that `make` returns, which is cached. Calls at the same time may each call `make`, but all get
    /// the same object.
    package func product(_ make: (WatchUpdate) -> any AnyObject & Sendable) -> any AnyObject & Sendable {
        if let known = made.load() { return known.object }
        return made.storeIfNil(Made(make(self))).object
    }

    /// A copy of the message without the name of the node. All watches that may not see the name share it.
    package func withoutNode() -> WatchUpdate {
        guard case .event(var event) = content, event.node != nil else { return self }
        if let known = nodeless.load() { return known }
        event.node = nil
        return nodeless.storeIfNil(WatchUpdate(event))
    }
}

extension WatchUpdate: Equatable {
    package static func == (left: WatchUpdate, right: WatchUpdate) -> Bool {
        left === right || left.job == right.job && left.content == right.content
    }
}
