import JobModel

/// Asks the store which runs of this node are to stop, when another node says that there are some. At most one query is
/// in flight. What a failed one would have found comes with the next renewal of the lease.
struct CancelRequests: Sendable {
    let runs: RunTable
    let store: any EngineStore
    let runtime: EngineRuntime
    /// Set when there are new requests.
    let requested: AutoResetEvent

    func run() async {
        while !Task.isCancelled {
            await requested.wait(atMost: .seconds(60), on: runtime)
            guard !Task.isCancelled, let cancels = try? await store.cancelRequests() else { continue }
            for (run, note) in cancels { runs.stop(run, note: note) }
        }
    }
}
