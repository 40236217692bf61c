import Dispatch
import Glibc
import Synchronization
import Testing

@testable import Threads

@Suite(.timeLimit(.minutes(3))) struct ThreadExecutorTests {
    private static let threadCount = 16
    private static let executor = Result { () throws(OSThreadError) in
        try ThreadExecutor(threadCount: threadCount)
    }

    // Unchecked: a semaphore is made for use by many threads.
    private final class Gate: @unchecked Sendable {
        private let semaphore = DispatchSemaphore(value: 0)

        /// Blocks. Returns false after 20 s without `open`, so that a failure does not hang.
        func wait() -> Bool { semaphore.wait(timeout: .now() + 20) == .success }
        func open() { semaphore.signal() }
    }

    /// Blocks all of its threads, which are more than the cooperative pool has: if they were the pool's, no other task
    /// would go on.
    @Test func blockedThreadsDelayNoOtherTask() async throws {
        let executor = try Self.executor.get()
        let gate = Gate()
        let (begins, begun) = AsyncStream<Void>.makeStream()
        let wereOpened = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<Self.threadCount {
                group.addTask {
                    await withTaskExecutorPreference(executor) {
                        begun.yield()
                        return gate.wait()
                    }
                }
            }
            var blocked = 0
            for await _ in begins {
                blocked += 1
                if blocked == Self.threadCount { break }
            }
            await Task.detached {
                for _ in 0..<Self.threadCount { gate.open() }
            }.value
            return await group.reduce(true) { $0 && $1 }
        }
        #expect(wereOpened)
    }

    @Test func moreTasksThanThreads() async throws {
        let executor = try Self.executor.get()
        let numbers = 0..<1000
        let sum = await withTaskGroup(of: Int.self) { group in
            for number in numbers {
                group.addTask {
                    await withTaskExecutorPreference(executor) {
                        await Task.yield()
                        return number
                    }
                }
            }
            return await group.reduce(0, +)
        }
        #expect(sum == numbers.reduce(0, +))
    }

    /// The system starts three threads and refuses the fourth.
    @Test func startedThreadsEndWhenOneIsRefused() async throws {
        let ended = Gate()
        let startCount = Mutex(0)
        let refusal = OSThreadError(code: EAGAIN)
        #expect(throws: refusal) {
            try ThreadExecutor(threadCount: 5) { run throws(OSThreadError) in
                let start = startCount.withLock { count in
                    count += 1
                    return count
                }
                guard start <= 3 else { throw refusal }
                try OSThread.start {
                    run()
                    ended.open()
                }
            }
        }
        #expect(startCount.withLock(\.self) == 4)
        let endCount = try await OSThread.run { (0..<3).count { _ in ended.wait() } }
        #expect(endCount == 3)
    }
}
