import Support
import Testing

@testable import JobService

@Suite struct WatchQuotaTests {
    private let ada = ExactText("ada")
    private let bob = ExactText("bob")

    @Test func upToTheQuotaOfEach() {
        var quota = WatchQuota(watchesMax: 2)
        #expect(quota.open(for: [ada]) == nil)
        #expect(quota.open(for: [ada, bob]) == nil)
        #expect(quota.open(for: [ada]) == ada)
        // Nothing is counted where one of the users is refused.
        for _ in 0..<3 { #expect(quota.open(for: [bob, ada]) == ada) }
        #expect(quota.open(for: [bob]) == nil)
        #expect(quota.open(for: [bob]) == bob)
        quota.close(for: [ada, bob])
        #expect(quota.open(for: [bob, ada]) == nil)
        #expect(quota.open(for: []) == nil)
    }

    @Test func closedWatchesTakeNoMemory() {
        var quota = WatchQuota(watchesMax: 5)
        for _ in 0..<3 { _ = quota.open(for: [ada, bob]) }
        for _ in 0..<3 { quota.close(for: [ada, bob]) }
        #expect(quota.users == 0)
    }
}
