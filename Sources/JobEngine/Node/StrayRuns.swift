import JobModel

/// Finds the runs that the store has for this node although no claim or start of its own will ever deliver them, because
/// the answer was lost. Pure.
struct StrayRuns {
    /// The newest grant when each run was first seen.
    private var seen: [RunFence: Int64] = [:]

    /// A run is lost when it was seen before, and every claim and start that was under way then is over.
    ///
    /// - Parameters:
    ///   - strays: the runs that the store has and the node does not know of, as of a renewal.
    ///   - grants: the newest grant, and the oldest that is open.
    mutating func lost(
        among strays: [ClaimedRun], grants: (newest: Int64, oldestOpen: Int64)
    ) -> [ClaimedRun] {
        let lost = strays.filter { (seen[$0.fence] ?? .max) < grants.oldestOpen }
        seen = Dictionary(
            strays.map { ($0.fence, seen[$0.fence] ?? grants.newest) }, uniquingKeysWith: min)
        return lost
    }
}
