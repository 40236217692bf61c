import Support
import Testing

@testable import JobService

@Suite struct EnqueueRateTests {
    private let start = ContinuousClock.now
    private let ada = ExactText("ada")
    private let bob = ExactText("bob")

    @Test func asManyAtOnceAsASeconds() {
        var rate = EnqueueRate(jobsPerSecond: 10)
        for _ in 0..<10 {
            #expect(rate.verdict(on: 1, of: ada, now: start) == .allowed)
            rate.take(1, of: ada, now: start)
        }
        #expect(rate.verdict(on: 1, of: ada, now: start) == .refused(retryAfter: .milliseconds(100)))
        #expect(rate.verdict(on: 5, of: ada, now: start) == .refused(retryAfter: .milliseconds(500)))
        #expect(rate.verdict(on: 10, of: bob, now: start) == .allowed)
    }

    @Test func theDelayIsEnough() {
        var rate = EnqueueRate(jobsPerSecond: 3)
        var now = start
        var waits: [Duration] = []
        for _ in 0..<12 {
            if case .refused(let delay) = rate.verdict(on: 1, of: ada, now: now) {
                waits.append(delay)
                #expect(delay > .zero)
                // A nanosecond less is not enough.
                #expect(rate.verdict(on: 1, of: ada, now: now + delay - .nanoseconds(1)) != .allowed)
                now += delay
            }
            #expect(rate.verdict(on: 1, of: ada, now: now) == .allowed)
            rate.take(1, of: ada, now: now)
        }
        #expect(waits.count == 9)
        // A burst of three, and then three a second.
        #expect(start.duration(to: now) > .milliseconds(2999) && start.duration(to: now) <= .seconds(3))
    }

    @Test func aBatchIsAllOrNothing() {
        var rate = EnqueueRate(jobsPerSecond: 10)
        rate.take(4, of: ada, now: start)
        #expect(rate.verdict(on: 6, of: ada, now: start) == .allowed)
        #expect(rate.verdict(on: 7, of: ada, now: start) == .refused(retryAfter: .milliseconds(100)))
        // A refusal uses up nothing.
        #expect(rate.verdict(on: 6, of: ada, now: start) == .allowed)
        #expect(rate.verdict(on: 11, of: ada, now: start) == .tooMany)
        #expect(rate.verdict(on: 11, of: bob, now: start) == .tooMany)
    }

    @Test func aPauseSavesUpNoMoreThanASecond() {
        var rate = EnqueueRate(jobsPerSecond: 2)
        rate.take(2, of: ada, now: start)
        let later = start + .seconds(3600)
        rate.take(2, of: ada, now: later)
        #expect(rate.verdict(on: 1, of: ada, now: later) == .refused(retryAfter: .milliseconds(500)))
    }

    @Test func memoryIsBounded() {
        var rate = EnqueueRate(jobsPerSecond: 1)
        for second in 0..<5 {
            for user in 0..<9_000 {
                rate.take(1, of: ExactText("\(second)-\(user)"), now: start + .seconds(2 * second))
            }
            #expect(rate.users <= 10_000)
        }
        // Users without a full bucket are not forgotten, however many they are.
        for user in 0..<30_000 { rate.take(1, of: ExactText("now-\(user)"), now: start + .seconds(60)) }
        #expect(rate.users >= 30_000)
        for user in 0..<30_000 {
            let verdict = rate.verdict(on: 1, of: ExactText("now-\(user)"), now: start + .seconds(60))
            if verdict != .refused(retryAfter: .seconds(1)) { Issue.record("\(user): \(verdict)") }
        }
    }
}
