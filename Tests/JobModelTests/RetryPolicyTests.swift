import JobModel
import Testing

@Suite struct RetryPolicyTests {
    private func delays(_ policy: RetryPolicy, _ failures: ClosedRange<Int>, random: Double = 0.5)
        -> [Duration]
    {
        failures.map { policy.delay(afterFailures: $0, random: random) }
    }

    @Test func defaultDoubles() {
        #expect(delays(RetryPolicy(), 1...5) == [5, 10, 20, 40, 80].map { .seconds($0) })
    }

    @Test func longestDelayIsTheCap() {
        let policy = RetryPolicy(initialDelay: .seconds(5), factor: 2, maxDelay: .seconds(12))
        #expect(delays(policy, 1...4) == [5, 10, 12, 12].map { .seconds($0) })
        #expect(
            RetryPolicy(initialDelay: .seconds(5), maxDelay: .zero).delay(afterFailures: 1, random: 0)
                == .zero)
    }

    @Test func factorOneIsSteady() {
        #expect(delays(RetryPolicy(factor: 1), 1...3) == [5, 5, 5].map { .seconds($0) })
    }

    @Test func jitterMovesBothWaysAndNeverOverTheCap() {
        let policy = RetryPolicy(initialDelay: .seconds(10), factor: 2, maxDelay: .seconds(60), jitter: 0.5)
        #expect(policy.delay(afterFailures: 1, random: 0) == .seconds(5))
        #expect(policy.delay(afterFailures: 1, random: 0.5) == .seconds(10))
        #expect(policy.delay(afterFailures: 1, random: 0.99) < .seconds(15))
        #expect(policy.delay(afterFailures: 1, random: 0.99) > .milliseconds(14_800))
        #expect(policy.delay(afterFailures: 9, random: 0.999_999) == .seconds(60))
        #expect(policy.delay(afterFailures: 9, random: 0) == .seconds(30))
        let whole = RetryPolicy(initialDelay: .seconds(10), jitter: 1)
        #expect(whole.delay(afterFailures: 1, random: 0) == .zero)
    }

    @Test func millisecondsAreRounded() {
        let policy = RetryPolicy(initialDelay: .milliseconds(1), factor: 1.5)
        #expect(delays(policy, 1...4) == [1, 2, 2, 3].map { .milliseconds($0) })
    }

    @Test func steepestPolicyDoesNotOverflow() {
        let policy = RetryPolicy(
            initialDelay: JobLimits.retryDelayMax, factor: 100, maxDelay: JobLimits.retryDelayMax, jitter: 1)
        for failures in 1...100 {
            for random in [0, 0.5, 0.999_999] {
                let delay = policy.delay(afterFailures: failures, random: random)
                #expect(delay >= .zero && delay <= JobLimits.retryDelayMax)
            }
        }
        #expect(policy.delay(afterFailures: 1000, random: 0.5) == JobLimits.retryDelayMax)
    }

    /// 0 × infinity is not a number.
    @Test func noDelayStaysNoDelay() {
        let policy = RetryPolicy(initialDelay: .zero, factor: 100)
        #expect(policy.delay(afterFailures: 99, random: 0.5) == .zero)
        #expect(policy.delay(afterFailures: 1000, random: 0.5) == .zero)
    }

    @Test func noFailureCountsAsTheFirst() {
        #expect(RetryPolicy().delay(afterFailures: 0, random: 0.5) == .seconds(5))
        #expect(RetryPolicy().delay(afterFailures: -3, random: 0.5) == .seconds(5))
    }
}
