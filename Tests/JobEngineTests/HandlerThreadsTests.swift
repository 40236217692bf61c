import Dispatch
import JobEngine
import Testing

@Suite(.timeLimit(.minutes(3))) struct HandlerThreadsTests {
    // Unchecked: a semaphore is made for use by many threads.
    private final class Gate: @unchecked Sendable {
        private let semaphore = DispatchSemaphore(value: 0)

        /// Blocks. False when nobody opened it, so that a failure does not hang.
        func wait() -> Bool { semaphore.wait(timeout: .now() + 20) == .success }
        func open() { semaphore.signal() }
    }

    /// As many as there are, and more than the node's own tasks have: with those blocked, nothing here would go on.
    @Test func whatBlocksThemLeavesOtherTasksTheirThreads() async {
        let threads = HandlerThreads.shared
        let gate = Gate()
        let (begins, begun) = AsyncStream<Void>.makeStream()
        let wereOpened = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<threads.count {
                group.addTask {
                    await withTaskExecutorPreference(threads) {
                        begun.yield()
                        return gate.wait()
                    }
                }
            }
            var blocked = 0
            for await _ in begins {
                blocked += 1
                if blocked == threads.count { break }
            }
            await Task.detached {
                for _ in 0..<threads.count { gate.open() }
            }.value
            return await group.reduce(true) { $0 && $1 }
        }
        #expect(wereOpened)
    }

    @Test func moreTasksThanThreads() async {
        let numbers = 0..<1000
        let sum = await withTaskGroup(of: Int.self) { group in
            for number in numbers {
                group.addTask {
                    await withTaskExecutorPreference(HandlerThreads.shared) {
                        await Task.yield()
                        return number
                    }
                }
            }
            return await group.reduce(0, +)
        }
        #expect(sum == numbers.reduce(0, +))
    }
}
