/// A node that can run jobs as they are enqueued: in the transaction that adds them, without a claim.
package protocol RunStarter: AnyObject, Sendable {
    /// Holds up to `count` free slots until `endStart`. Nil: no job may start now, because there is no slot or because
    /// other jobs have waited longer.
    func beginStart(upTo count: Int) -> StartGrant?
    /// The runs are committed, and belong to this node.
    func start(_ runs: [ClaimedRun], under grant: StartGrant)
    /// Gives back the slots that no run has taken. Must be called once for each grant.
    func endStart(_ grant: StartGrant)
    /// A commit of ends is over, and all its completions were called: there are slots, and room in lanes.
    func endsAreTold()
}

/// Slots held for jobs that start as they are enqueued.
package struct StartGrant: Sendable {
    /// The starter's own, to tell grants apart.
    package var id: Int64
    /// No more jobs start under it.
    package var slots: Int
    /// Numbers of the kinds that may start: those that have a free slot for each job of the grant.
    package var kinds: [Int32]
    package var defaultUserLimit: Int

    package init(id: Int64, slots: Int, kinds: [Int32], defaultUserLimit: Int) {
        self.id = id
        self.slots = slots
        self.kinds = kinds
        self.defaultUserLimit = defaultUserLimit
    }
}
