import Testing

@testable import SignalboxAPI

@Suite(.timeLimit(.minutes(3))) struct HealthStateTests {
    @Test func aWatchThatBeginsAfterTheEndEndsToo() async {
        let health = HealthState()
        health.set(serving: true)
        health.set(serving: false)
        health.end()
        var received: [Bool] = []
        for await isServing in health.changes() { received.append(isServing) }
        #expect(received == [false])
    }
}
