/// A part of a node that acts on what happens to jobs: the worker, and the hub of watches.
///
/// A change feed calls it. Everything but `receive` has a default for subscribers that do not need it.
package protocol ChangeSubscriber: AnyObject, Sendable {
    /// What this node has committed, once it is durable, or what one of its runs reports before it is saved.
    ///
    /// Called on the thread that made the commit, one call for each commit and before the caller of the store gets its
    /// answer. It must not block.
    func receive(_ notices: [Notice])

    /// Another node has changed something, or may have.
    ///
    /// - Parameter hasCancels: whether a run may have been asked to stop.
    func wake(hasCancels: Bool)

    /// Which changes it needs from the change log at the moment.
    var interest: ChangeInterest { get }

    /// The changes that one read of the log has found. Called after every read, also when it has found none. If this
    /// throws, the same changes are read and delivered again.
    func deliver(_ changes: [RemoteChange]) async throws(StoreError)

    /// The feed has lost its position in the log, so there may be changes that are never delivered.
    func changesWereMissed()
}

extension ChangeSubscriber {
    package func wake(hasCancels: Bool) {}
    package var interest: ChangeInterest { .cancels }
    package func deliver(_ changes: [RemoteChange]) async throws(StoreError) {}
    package func changesWereMissed() {}
}

/// Which changes to read from the change log. Each case includes those before it.
package enum ChangeInterest: Sendable, Comparable {
    /// Only whether some run was asked to stop.
    case cancels
    /// The changes of other nodes.
    case otherNodes
    /// The changes of this node too.
    case allNodes
}

/// A change of a job, as the change log has it.
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
