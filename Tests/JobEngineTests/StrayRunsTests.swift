import JobModel
import Testing

@testable import JobEngine

@Suite struct StrayRunsTests {
    private let run = ClaimedRun.sample(token: 7)

    private func tokens(_ runs: [ClaimedRun]) -> [Int64] { runs.map(\.token) }

    @Test func aRunIsLostWhenItIsSeenAgainAndNoClaimIsOpen() {
        var strays = StrayRuns()
        #expect(strays.lost(among: [run], grants: (newest: 4, oldestOpen: .max)).isEmpty)
        #expect(tokens(strays.lost(among: [run], grants: (newest: 9, oldestOpen: .max))) == [7])
    }

    /// Its claim may be the one that is open.
    @Test func aRunMayBeOfAnOpenClaim() {
        var strays = StrayRuns()
        for oldestOpen in [3, 4] as [Int64] {
            #expect(strays.lost(among: [run], grants: (newest: 4, oldestOpen: oldestOpen)).isEmpty)
        }
        // Those that are open now began after it was first seen.
        #expect(tokens(strays.lost(among: [run], grants: (newest: 9, oldestOpen: 5))) == [7])
    }

    /// Its claim was answered between two renewals.
    @Test func aRunThatIsGoneIsForgotten() {
        var strays = StrayRuns()
        _ = strays.lost(among: [run], grants: (newest: 4, oldestOpen: 4))
        #expect(strays.lost(among: [], grants: (newest: 5, oldestOpen: .max)).isEmpty)
        #expect(strays.lost(among: [run], grants: (newest: 5, oldestOpen: .max)).isEmpty)
    }
}
