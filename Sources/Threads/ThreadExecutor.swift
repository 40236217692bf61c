import DequeModule
import Dispatch
import Synchronization

/// A fixed number of threads that run tasks whose code may block or take much CPU time, so that the tasks of the
/// cooperative pool, such as the renewal of a lease, are not delayed.
///
/// It must last as long as the process, because a task does not keep its executor alive: make it in a static property.
package final class ThreadExecutor: TaskExecutor {
    private let jobsWaiting = DispatchSemaphore(value: 0)
    /// First in, first out. A task has at most one job here, so the bound of its tasks bounds this queue.
    private let jobs = Mutex<Deque<UnownedJob>>([])

    /// Starts the threads. If the system refuses one, those that were started end.
    package convenience init(threadCount: Int) throws(OSThreadError) {
        try self.init(threadCount: threadCount, startThread: OSThread.start)
    }

    /// - Parameter startThread: starts a thread that runs the function, as `OSThread.start` does.
    init(
        threadCount: Int,
        startThread: (@escaping @Sendable () -> Void) throws(OSThreadError) -> Void
    ) throws(OSThreadError) {
        precondition(threadCount > 0, "an executor needs a thread")
        for started in 0..<threadCount {
            do throws(OSThreadError) {
                try startThread { self.work() }
            } catch {
                for _ in 0..<started { jobsWaiting.signal() }
                throw error
            }
        }
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
        jobsWaiting.signal()
    }

    private func work() {
        while true {
            jobsWaiting.wait()
            // A signal without a job comes only from an `init` that failed.
            guard let job = jobs.withLock({ $0.popFirst() }) else { return }
            unsafe job.runSynchronously(on: asUnownedTaskExecutor())
        }
    }
}
