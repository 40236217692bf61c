import Testing

@testable import JobEngine

@Suite(.timeLimit(.minutes(3))) struct OneShotEventTests {
    @Test func endsEveryWaitBeforeAndAfter() async throws {
        let event = OneShotEvent()
        async let first: Void = event.wait()
        async let second: Void = event.wait()
        event.fire()
        event.fire()
        try await first
        try await second
        try await event.wait()
    }

    @Test func cancellationEndsAWait() async {
        let event = OneShotEvent()
        for _ in 0..<200 {
            let task = Task { try await event.wait() }
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
    }
}
