import JobModel
import Logging

/// Removes finished jobs, audit entries and changes that have been kept for long enough.
struct Retention: Sendable {
    /// Rows that one statement removes: nothing else waits for it for long.
    private static let rowsAtOnce = 1000

    let store: any EngineStore
    let runtime: EngineRuntime
    /// The time for which finished jobs are kept.
    let jobs: Duration
    /// The time for which audit entries are kept.
    let audit: Duration
    let logger: Logger

    func run() async {
        while !Task.isCancelled {
            var wait: Duration = .seconds(30)
            do throws(StoreError) {
                try await store.trimChanges()
                let removed = try await store.removeFinished(olderThan: jobs, atMost: Self.rowsAtOnce)
                let trimmed = try await store.trimAudit(olderThan: audit, atMost: Self.rowsAtOnce)
                // While there is more, a few at a time, so that nothing else waits for it.
                if removed == Self.rowsAtOnce || trimmed == Self.rowsAtOnce { wait = .milliseconds(100) }
            } catch {
                logger.debug("could not remove old rows", metadata: ["error": "\(error)"])
            }
            try? await runtime.sleep(for: wait)
        }
    }
}
