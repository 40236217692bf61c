/// A node that can start jobs as they are enqueued, in the transaction that adds them and without a claim.
package protocol RunStarter: AnyObject, Sendable {
    /// Holds up to `count` free slots until `endStart`. Nil if no job may start now, because there is no free
    /// slot or because other jobs have waited longer.
    func beginStart(upTo count: Int) -> StartGrant?
    /// Runs the jobs that were started. They are committed, and belong to this node.
    func start(_ runs: [ClaimedRun], under grant: StartGrant)
    /// Releases the slots that no run has taken. It must be called once for each grant.
    func endStart(_ grant: StartGrant)
    /// Reports that a group commit of ends is over and its completions were called, so there are free slots and
    /// room in lanes.
    func didFinishRuns()
}

/// The slots that are held for jobs that start as they are enqueued.
package struct StartGrant: Sendable {
    /// The starter's own number, which tells grants apart.
    package var id: Int64
    /// The most jobs that start under the grant.
    package var slots: Int
    /// The numbers of the kinds that may start. Each has a free slot for every job of the grant.
    package var kinds: [Int32]
    package var defaultUserLimit: Int

    package init(id: Int64, slots: Int, kinds: [Int32], defaultUserLimit: Int) {
        self.id = id
        self.slots = slots
        self.kinds = kinds
        self.defaultUserLimit = defaultUserLimit
    }
}
