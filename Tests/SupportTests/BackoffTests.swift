import Support
import Testing

@Suite struct BackoffTests {
    @Test func delaysDoubleToABound() {
        var backoff = Backoff(initial: .milliseconds(50), most: .milliseconds(300))
        let longest = (0..<5).map { _ in backoff.next(random: 1) }
        #expect(longest == [50, 100, 200, 300, 300].map { .milliseconds($0) })
        backoff.reset()
        let shortest = (0..<5).map { _ in backoff.next(random: 0) }
        #expect(shortest == [25, 50, 100, 150, 150].map { .milliseconds($0) })
    }

    /// Those who failed together do not come back together.
    @Test func delaysAreDrawn() {
        let delays = (0..<100).map { _ in
            var backoff = Backoff(initial: .seconds(1), most: .seconds(1))
            return backoff.next()
        }
        #expect(delays.allSatisfy { $0 >= .milliseconds(500) && $0 < .seconds(1) })
        #expect(Set(delays).count > 90)
    }
}
