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

    @Test func callsAnActionWhileABodyRuns() async {
        let event = OneShotEvent()
        // An action whose body has ended is not called any more.
        await event.calling {
            Issue.record("called after its body")
        } while: {
        }
        let early = FirstValue<Int>()
        #expect(
            await event.calling {
                early.set(1)
            } while: {
                event.fire(); return await early.get()
            } == 1)
        let late = FirstValue<Int>()
        #expect(
            await event.calling {
                late.set(2)
            } while: {
                await late.get()
            } == 2)
    }

    @Test func theFirstValueIsKept() async {
        let value = FirstValue<Int>()
        let waiter = Task { await value.get() }
        // A cancelled task waits too.
        waiter.cancel()
        value.set(1)
        value.set(2)
        #expect(await waiter.value == 1)
    }
}
