/// A node that can run jobs as they are enqueued: in the transaction that adds them, without a claim.
package protocol RunStarter: AnyObject, Sendable {
    /// Holds up to `count` free slots until `endStart`. Nil: no job may start now, because there is no slot or because
    /// others have waited longer.
    func beginStart(upTo count: Int) -> StartGrant?
    /// The runs are committed, and this node's to run.
    func start(_ runs: [ClaimedRun], under grant: StartGrant)
    /// Called once for each grant, whatever became of it.
    func endStart(_ grant: StartGrant)
    /// A commit of ends is over, and the runs have been told: there are slots, and room in lanes.
    func endsAreTold()
}

/// Slots held for jobs that start as they are enqueued.
package struct StartGrant: Sendable {
    /// The starter's own, to tell grants apart.
    package var id: Int64
    package var slots: Int
    /// Numbers of the kinds that the node handles.
    package var kinds: [Int32]
    package var defaultUserLimit: Int

    package init(id: Int64, slots: Int, kinds: [Int32], defaultUserLimit: Int) {
        self.id = id
        self.slots = slots
        self.kinds = kinds
        self.defaultUserLimit = defaultUserLimit
    }
}
