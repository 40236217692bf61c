import JobModel
import Support
import Testing

@testable import JobService

@Suite struct PendingQuotaTests {
    private typealias Amount = PendingAmount

    private let start = ContinuousClock.now
    private let ada = ExactText("ada")
    private let one = Amount(jobs: 1, bytes: 100)

    /// One that has an answer, asked for at the start.
    private func quota(_ jobs: Int, of jobsMax: Int, bytes: Int = 0, bytesMax: Int = .max) -> PendingQuota {
        var quota = PendingQuota(jobsMax: jobsMax, bytesMax: bytesMax)
        quota.willQuery(about: ada)
        quota.answer(Amount(jobs: jobs, bytes: bytes), about: ada, askedAt: start)
        return quota
    }

    private func add(_ amount: Amount, to quota: inout PendingQuota) {
        quota.take(amount, of: ada)
        quota.settle(amount, of: ada, wereAdded: true)
    }

    @Test func noUserIsKnownBeforeTheQuery() {
        let quota = PendingQuota(jobsMax: 10)
        #expect(quota.verdict(on: one, of: ada, now: start) == .ask)
    }

    @Test func upToTheQuota() {
        var quota = quota(8, of: 10)
        for _ in 0..<2 {
            #expect(quota.verdict(on: one, of: ada, now: start) == .allowed)
            quota.take(one, of: ada)
        }
        // Some of those that it had may have started since.
        #expect(quota.verdict(on: one, of: ada, now: start) == .ask)
        // The answer is the same: now it is known.
        #expect(quota.verdict(on: one, of: ada, now: start, wasLookedUp: true) == .refused(.jobs(10)))
    }

    @Test func fullIsFullForASecondWithoutAQuery() {
        let quota = quota(10, of: 10)
        #expect(quota.verdict(on: one, of: ada, now: start) == .refused(.jobs(10)))
        #expect(quota.verdict(on: one, of: ada, now: start + .milliseconds(999)) == .refused(.jobs(10)))
        #expect(quota.verdict(on: one, of: ada, now: start + .seconds(1)) == .ask)
    }

    @Test func othersMayHaveAddedSomethingWithinASecond() {
        let quota = quota(0, of: 10)
        #expect(quota.verdict(on: one, of: ada, now: start + .milliseconds(999)) == .allowed)
        #expect(quota.verdict(on: one, of: ada, now: start + .seconds(1)) == .ask)
        // The answer may have taken longer than that.
        #expect(quota.verdict(on: one, of: ada, now: start + .seconds(5), wasLookedUp: true) == .allowed)
    }

    @Test func bytesOfPayload() {
        var quota = quota(1, of: 1000, bytes: 700, bytesMax: 1000)
        #expect(quota.verdict(on: Amount(jobs: 3, bytes: 300), of: ada, now: start) == .allowed)
        #expect(quota.verdict(on: Amount(jobs: 1, bytes: 301), of: ada, now: start) == .refused(.bytes(1000)))
        add(Amount(jobs: 3, bytes: 300), to: &quota)
        #expect(quota.verdict(on: one, of: ada, now: start) == .ask)
        #expect(quota.verdict(on: one, of: ada, now: start, wasLookedUp: true) == .refused(.bytes(1000)))
        // One without a payload.
        #expect(quota.verdict(on: Amount(jobs: 1, bytes: 0), of: ada, now: start) == .allowed)
    }

    @Test func whatNeverFits() {
        let quota = quota(0, of: 10, bytesMax: 1000)
        #expect(quota.verdict(on: Amount(jobs: 11, bytes: 0), of: ada, now: start) == .tooMany(.jobs(10)))
        #expect(
            quota.verdict(on: Amount(jobs: 1, bytes: 1001), of: ada, now: start) == .tooMany(.bytes(1000)))
        let unknown = ExactText("bob")
        #expect(quota.verdict(on: Amount(jobs: 11, bytes: 0), of: unknown, now: start) == .tooMany(.jobs(10)))
    }

    @Test func whatWasNotAddedDoesNotCount() {
        var quota = quota(9, of: 10)
        quota.take(one, of: ada)
        quota.settle(one, of: ada, wereAdded: false)
        #expect(quota.verdict(on: one, of: ada, now: start) == .allowed)
        quota.take(one, of: ada)
        quota.settle(one, of: ada, wereAdded: true)
        #expect(quota.verdict(on: one, of: ada, now: start, wasLookedUp: true) == .refused(.jobs(10)))
    }

    /// What is committed while the question is under way may be in the answer, or not: it counts, until the next one.
    @Test func whatComesDuringTheQuestionCounts() {
        var quota = quota(0, of: 10)
        for _ in 0..<4 { add(one, to: &quota) }
        quota.take(one, of: ada)
        quota.willQuery(about: ada)
        quota.settle(one, of: ada, wereAdded: true)
        quota.take(one, of: ada)
        // The four of before are in the answer, and two have started meanwhile.
        quota.answer(Amount(jobs: 2, bytes: 0), about: ada, askedAt: start)
        let left = Amount(jobs: 6, bytes: 0)
        #expect(quota.verdict(on: left, of: ada, now: start) == .allowed)
        #expect(quota.verdict(on: Amount(jobs: 7, bytes: 0), of: ada, now: start) == .ask)
        quota.settle(one, of: ada, wereAdded: true)
        quota.willQuery(about: ada)
        quota.answer(Amount(jobs: 3, bytes: 0), about: ada, askedAt: start)
        #expect(quota.verdict(on: Amount(jobs: 7, bytes: 0), of: ada, now: start) == .allowed)
    }

    @Test func aQuestionWithoutAnAnswerLosesNothing() {
        var quota = quota(0, of: 10)
        for _ in 0..<10 { add(one, to: &quota) }
        quota.willQuery(about: ada)
        #expect(quota.verdict(on: one, of: ada, now: start) == .ask)
    }

    @Test func memoryIsBounded() {
        var quota = PendingQuota(jobsMax: 10)
        for round in 0..<5 {
            let now = start + .seconds(2 * round)
            for number in 0..<9_000 {
                let user = ExactText("\(round)-\(number)")
                quota.willQuery(about: user)
                quota.answer(.zero, about: user, askedAt: now)
            }
            quota.tidy(now: now)
            #expect(quota.users <= 18_000)
        }
        // Whose jobs are under way is not forgotten.
        quota.take(one, of: ada)
        for number in 0..<40_000 { quota.willQuery(about: ExactText("last-\(number)")) }
        quota.tidy(now: start + .seconds(60))
        #expect(quota.users == 1)
    }
}
