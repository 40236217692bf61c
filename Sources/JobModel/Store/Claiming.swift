/// Where the next claim goes on, so that lanes are served in turn.
package struct ClaimCursor: Sendable, Equatable {
    /// The last lane that was looked at.
    package var lane: Int64 = 0
    package init() {}
}

package struct ClaimRequest: Sendable {
    /// The most jobs that one claim starts, so that it does not hold its connection and the locks of its lanes for long.
    package static let runsMax = 120

    /// Free slots: never more are claimed. At least 1.
    package var slots: Int
    /// Numbers of the kinds whose jobs may start.
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
    /// There may be more in lanes that were not looked at yet.
    package var hasMore = false
    /// Another node was just claiming from some of the lanes.
    package var isContended = false
    /// Something was ready in a lane that was looked at, whether or not it could start.
    package var foundLanes = false

    package init() {}
}

/// Where the next claim may begin while one is still under way.
package struct ClaimOutlook: Sendable {
    package var cursor: ClaimCursor
    /// The claim under way starts no more than that.
    package var runsMax: Int

    package init(cursor: ClaimCursor, runsMax: Int) {
        self.cursor = cursor
        self.runsMax = runsMax
    }
}
