import FoundationEssentials
import JobModel
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(3))) struct EngineRuntimeTests {
    /// Runs its jobs at once, and counts them.
    private final class CountingExecutor: TaskExecutor {
        let count = Mutex(0)

        func enqueue(_ job: consuming ExecutorJob) {
            count.withLock { $0 += 1 }
            job.runSynchronously(on: asUnownedTaskExecutor())
        }
    }

    private func runtime(
        random: @escaping @Sendable () -> UInt64 = { 0 }, executor: (any TaskExecutor)? = nil,
        sleep: @escaping @Sendable (Duration) async throws -> Void = { _ in }
    ) -> EngineRuntime {
        EngineRuntime(now: { .now }, date: { .now }, sleep: sleep, random: random, executor: executor)
    }

    @Test func tasksStartOnTheExecutor() async {
        let executor = CountingExecutor()
        #expect(await runtime(executor: executor).start { 7 }.value == 7)
        #expect(executor.count.withLock { $0 } == 1)
    }

    @Test func randomNumbersAreBelowOne() {
        #expect(runtime(random: { 0 }).random() == 0)
        let most = runtime(random: { .max }).random()
        #expect(most < 1 && most > 0.999_999)
        #expect(runtime(random: { 1 << 63 }).random() == 0.5)
    }

    @Test func uuidsAreOfVersionFour() {
        #expect(runtime(random: { 0 }).uuid().uuidString == "00000000-0000-4000-8000-000000000000")
        #expect(runtime(random: { .max }).uuid().uuidString == "FFFFFFFF-FFFF-4FFF-BFFF-FFFFFFFFFFFF")
        #expect(
            runtime(random: { 0x0123_4567_89AB_CDEF }).uuid().uuidString
                == "01234567-89AB-4DEF-8123-456789ABCDEF")
    }

    /// A wait is as long as the runtime says.
    @Test func waitOnARuntime() async {
        let waits = Mutex<[Duration]>([])
        let runtime = runtime(sleep: { time in waits.withLock { $0.append(time) } })
        await AutoResetEvent().wait(atMost: .seconds(600), on: runtime)
        #expect(waits.withLock { $0 } == [.seconds(600)])
    }
}
