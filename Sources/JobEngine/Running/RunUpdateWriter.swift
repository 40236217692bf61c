import JobModel
import Logging
import Support

/// Saves progress and log lines of runs, five times a second while there are any.
struct RunUpdateWriter: Sendable {
    let runs: RunTable
    let store: any EngineStore
    let runtime: EngineRuntime
    let logger: Logger
    /// Set when a run has reported progress or log lines.
    let updated: AutoResetEvent

    func run() async {
        let pause: Duration = .milliseconds(200)
        var backoff = Backoff(initial: pause * 2, most: .seconds(2))
        while !Task.isCancelled {
            await updated.wait(atMost: .seconds(60), on: runtime)
            let updates = runs.all.compactMap { run in run.takeUpdate().map { (run, $0) } }
            guard !updates.isEmpty else { continue }
            var isSaved = false
            var wait = pause
            do throws(StoreError) {
                try await store.save(updates.map(\.1))
                isSaved = true
                backoff.reset()
            } catch {
                logger.warning("could not write progress and log lines", metadata: ["error": "\(error)"])
                updated.wake()
                wait = backoff.next(random: runtime.random())
            }
            for (run, update) in updates { run.updateIsOver(update, isSaved: isSaved) }
            try? await runtime.sleep(for: wait)
        }
    }
}
