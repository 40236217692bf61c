import Dispatch
import Foundation
import Synchronization

/// Threads for runners whose code may block, so that the node's own tasks, such as the renewal of its lease, are not
/// delayed. They last as long as the process.
package final class HandlerThreads: TaskExecutor {
    package static let shared = HandlerThreads(
        count: max(4, 2 * ProcessInfo.processInfo.activeProcessorCount))

    package let count: Int
    /// Counts `jobs`.
    private let jobsWaiting = DispatchSemaphore(value: 0)
    /// First in, first out. Short, because a run has one at a time, and one for each of its child tasks.
    private let jobs = Mutex<[UnownedJob]>([])

    private init(count: Int) {
        self.count = count
        for _ in 0..<count { Thread.detachNewThread { self.work() } }
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
        jobsWaiting.signal()
    }

    private func work() {
        while true {
            jobsWaiting.wait()
            let job = jobs.withLock { $0.removeFirst() }
            job.runSynchronously(on: asUnownedTaskExecutor())
        }
    }
}
