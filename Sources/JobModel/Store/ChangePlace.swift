/// A position in the change log that all nodes understand: a snapshot of the database. Changes that were visible in the
/// snapshot lie before it, and all others after it.
package struct ChangePlace: Sendable, Hashable {
    /// The lowest id of a transaction that was not assigned yet. It and all higher ones were not visible.
    package var xmax: UInt64
    /// The lower ids that were not visible either, because their transactions were in progress.
    package var xip: [UInt64]
    /// The database's time, not later than the snapshot.
    package var at: Timestamp

    package init(xmax: UInt64, xip: [UInt64], at: Timestamp) {
        self.xmax = xmax
        self.xip = xip
        self.at = at
    }
}
