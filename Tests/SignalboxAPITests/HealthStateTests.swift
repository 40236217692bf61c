import Testing

@testable import SignalboxAPI

@Suite(.timeLimit(.minutes(3))) struct HealthStateTests {
    @Test func aWatchThatBeginsAfterTheEndEndsToo() async {
        let health = HealthState()
        health.set(serving: true)
        health.set(serving: false)
        health.end()
        var told: [Bool] = []
        for await isServing in health.changes() { told.append(isServing) }
        #expect(told == [false])
    }
}
