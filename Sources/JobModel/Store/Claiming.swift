/// The position at which the next claim continues, so that lanes are served round robin.
package struct ClaimCursor: Sendable, Equatable {
    /// The last lane that a claim has visited.
    package var lane: Int64 = 0
    package init() {}
}

package struct ClaimRequest: Sendable {
    /// The most jobs that one claim starts, so that it does not hold its connection and the locks of its lanes for long.
    package static let runsMax = 120

    /// The free slots. No more jobs are claimed. At least 1.
    package var slots: Int
    /// The numbers of the kinds whose jobs may start.
    package var kinds: [Int32]
    package var cursor: ClaimCursor
    package var defaultUserLimit: Int

    package init(slots: Int, kinds: [Int32], cursor: ClaimCursor, defaultUserLimit: Int) {
        self.slots = slots
        self.kinds = kinds
        self.cursor = cursor
        self.defaultUserLimit = defaultUserLimit
    }
}

package struct ClaimResult: Sendable {
    package var runs: [ClaimedRun] = []
    package var cursor = ClaimCursor()
    /// Whether there may be more jobs in lanes that were not visited yet.
    package var hasMore = false
    /// Whether another node was claiming from some of the lanes.
    package var isContended = false
    /// Whether a visited lane had a ready job, even if it could not start.
    package var foundLanes = false

    package init() {}
}

/// The cursor for the next claim while one is still in flight.
package struct ClaimOutlook: Sendable {
    package var cursor: ClaimCursor
    /// The most runs that the claim in flight starts.
    package var runsMax: Int

    package init(cursor: ClaimCursor, runsMax: Int) {
        self.cursor = cursor
        self.runsMax = runsMax
    }
}
