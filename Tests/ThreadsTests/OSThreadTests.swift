import Foundation
import Testing
import Threads

@Suite(.timeLimit(.minutes(3))) struct OSThreadTests {
    @Test func runsOnAThreadOfItsOwn() async throws {
        let here = pthread_self()
        let there = try await OSThread.run { pthread_self() }
        #expect(there != here)
    }

    /// In a process of its own, whose address space is limited so that no stack for a thread fits in.
    @Test func aRefusalOfTheSystemIsAnError() async {
        await #expect(processExitsWith: .success) {
            let addressSpace = __rlimit_resource_t(RLIMIT_AS.rawValue)
            var limit = rlimit()
            getrlimit(addressSpace, &limit)
            let whole = limit.rlim_cur
            limit.rlim_cur = 1
            setrlimit(addressSpace, &limit)
            // The stacks of threads that have ended are used again, so it may start a few.
            var error: OSThreadError?
            for _ in 0..<100 where error == nil {
                do throws(OSThreadError) {
                    try OSThread.start { DispatchSemaphore(value: 0).wait() }
                } catch let refusal {
                    error = refusal
                }
            }
            var executorError: OSThreadError?
            do throws(OSThreadError) { _ = try ThreadExecutor(threadCount: 100) } catch let refusal {
                executorError = refusal
            }
            limit.rlim_cur = whole
            setrlimit(addressSpace, &limit)
            #expect(error?.code == EAGAIN && executorError?.code == EAGAIN)
            #expect(error?.description.contains("cannot start a thread") == true)
        }
    }
}
