/// A part of a node that acts on changes of jobs: the worker, and the watch hub.
///
/// A change feed calls it. Everything but `receive` has a default for subscribers that do not need it.
package protocol ChangeSubscriber: AnyObject, Sendable {
    /// Receives what this node has committed, once it is durable, or what one of its runs reports before it is
    /// saved.
    ///
    /// It is called on the thread that made the commit, once per commit and before the store's caller gets its
    /// result. It must not block.
    func receive(_ changes: [LocalChange])

    /// Reports that another node has changed something, or may have.
    ///
    /// - Parameter hasCancels: whether a run may have been asked to stop.
    func wake(hasCancels: Bool)

    /// The changes that it needs from the change log now.
    var interest: ChangeInterest { get }

    /// Receives the changes that one read of the log has found. It is called after every read, even when there
    /// are none. If it throws, the same changes are read and delivered again. A change of this node may be delivered
    /// before `receive` is called with it.
    func deliver(_ changes: [RemoteChange]) async throws(StoreError)

    /// Reports that every subscriber has received all changes before a position.
    func delivered(upTo place: ChangePlace)

    /// Reports that the feed has lost its position in the log, so some changes may never be delivered.
    func changesWereMissed()

    /// Reports that the database has lost commits. `changesWereMissed` follows.
    func historyWasLost()
}

extension ChangeSubscriber {
    package func wake(hasCancels: Bool) {}
    package var interest: ChangeInterest { .cancels }
    package func deliver(_ changes: [RemoteChange]) async throws(StoreError) {}
    package func delivered(upTo place: ChangePlace) {}
    package func changesWereMissed() {}
    package func historyWasLost() {}
}

/// The changes to read from the change log. Each case includes those before it.
package enum ChangeInterest: Sendable, Comparable {
    /// Only requests to stop a run.
    case cancels
    /// The changes of other nodes.
    case otherNodes
    /// The changes of this node as well.
    case allNodes
}

/// A change of a job, as read from the change log.
package struct RemoteChange: Sendable {
    /// The job's number in the database.
    package var number: Int64
    package var lane: Int64
    /// The sequence of the job's last event. 0 stands for its progress, its log, or a request to stop.
    package var sequence: Int64

    package init(number: Int64, lane: Int64, sequence: Int64) {
        self.number = number
        self.lane = lane
        self.sequence = sequence
    }
}
