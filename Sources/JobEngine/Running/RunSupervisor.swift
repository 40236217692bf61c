import JobModel

/// Looks after the timeouts of runs, 50 times a second while there are any.
struct RunSupervisor: Sendable {
    let runs: RunTable
    let runtime: EngineRuntime

    func run() async {
        while !Task.isCancelled {
            let running = runs.all
            let now = runtime.now()
            for run in running { run.tick(now) }
            if running.isEmpty {
                await runs.firstRun.wait(atMost: .seconds(60), on: runtime)
            } else {
                try? await runtime.sleep(for: .milliseconds(20))
            }
        }
    }
}
