import JobModel
import Logging

/// Makes scheduled jobs ready when their time has come.
struct DueJobs: Sendable {
    let store: any EngineStore
    let runtime: EngineRuntime
    let pollInterval: Duration
    let logger: Logger
    /// Woken when a job was scheduled: it may be due earlier than the others.
    let scheduled: AutoResetEvent
    /// Called when there are ready jobs.
    let onReady: @Sendable () -> Void

    func run() async {
        while !Task.isCancelled {
            var wait = pollInterval
            do throws(StoreError) {
                let due = try await store.promoteDue()
                if due.promoted > 0 { onReady() }
                if let next = due.next { wait = min(wait, max(next, .milliseconds(1))) }
            } catch {
                logger.debug("could not look for due jobs", metadata: ["error": "\(error)"])
            }
            await scheduled.wait(atMost: wait, on: runtime)
        }
    }
}
