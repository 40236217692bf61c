import JobModel
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(3))) struct AutoResetEventTests {
    @Test func wakeBeforeTheWaitIsKept() async {
        let signal = AutoResetEvent()
        signal.wake()
        signal.wake()
        await signal.wait(atMost: .seconds(600), on: .system)
    }

    @Test func wakeEndsTheWait() async {
        let signal = AutoResetEvent()
        for _ in 0..<1000 {
            async let waiting: Void = signal.wait(atMost: .seconds(600), on: .system)
            signal.wake()
            await waiting
        }
    }

    @Test func timeEndsTheWait() async {
        await AutoResetEvent().wait(atMost: .milliseconds(1), on: .system)
    }

    @Test func cancellationEndsTheWait() async {
        let signal = AutoResetEvent()
        for _ in 0..<200 {
            let task = Task { await signal.wait(atMost: .seconds(600), on: .system) }
            task.cancel()
            await task.value
        }
    }

    /// Each item that was put before a wake is seen: no wake is lost between the look and the wait.
    @Test func noWakeIsLost() async {
        let signal = AutoResetEvent()
        let items = Mutex(0)
        let consumer = Task {
            var seen = 0
            while seen < 10_000 {
                await signal.wait(atMost: .seconds(600), on: .system)
                seen += items.withLock { count in
                    defer { count = 0 }
                    return count
                }
            }
        }
        for _ in 0..<10_000 {
            items.withLock { $0 += 1 }
            signal.wake()
            await Task.yield()
        }
        await consumer.value
    }
}
