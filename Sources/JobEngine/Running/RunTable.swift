import JobModel
import Logging
import Support
import Synchronization

/// The runs of this node: it starts them, finds those that are to be stopped, and frees their slots.
final class RunTable: Sendable {
    /// Requests to stop that are kept for runs that have not started here yet. When there are more, all are dropped: the
    /// renewal of the lease brings them again.
    private static let earlyStopsMax = 10_000

    private struct State {
        var runs = DenseMap<RunFence, ActiveRun>()
        /// The notes of these requests. The claim of such a run may be committed, and its response on the way.
        var earlyStops: [RunFence: String] = [:]
    }

    /// Woken when the first run starts.
    let firstRun = AutoResetEvent()
    private let context: RunContext
    private let pools: RunnerPools
    private let state = Mutex(State())

    init(context: RunContext, pools: RunnerPools) {
        self.context = context
        self.pools = pools
    }

    /// In an order that a seed of the simulation repeats.
    var all: [ActiveRun] { state.withLock { $0.runs.values } }

    var fences: [RunFence] { all.map(\.claimed.fence) }

    func has(_ run: RunFence) -> Bool { state.withLock { $0.runs[run] != nil } }

    // MARK: Start

    /// Starts runs that are committed, in the slots of the grant.
    func start(_ claimed: [ClaimedRun], under grant: StartGrant) {
        guard !claimed.isEmpty else { return }
        let holders = pools.pools(of: grant)
        for claimed in claimed { start(claimed, in: holders, under: grant) }
    }

    private func start(_ claimed: ClaimedRun, in holders: [RunnerPool], under grant: StartGrant) {
        for pool in holders {
            guard let runner = pool.runner(of: claimed.spec.kind) else { continue }
            return start(claimed, in: pool, runner, under: grant)
        }
        // The grant names our kinds, so this is a bug; the job is not lost, the lease's renewal gives it back.
        context.logger.error(
            "claimed a job of a kind without a handler: the next renewal of the lease releases it",
            metadata: ["kind": "\(claimed.spec.kind)"])
    }

    private func start(
        _ claimed: ClaimedRun, in pool: RunnerPool, _ runner: any JobRunner, under grant: StartGrant
    ) {
        let run = ActiveRun(claimed, definition: runner.definition, pool: pool, context: context)
        let (isFirst, note) = state.withLock { state in
            state.runs[claimed.fence] = run
            let note = state.earlyStops.isEmpty ? nil : state.earlyStops.removeValue(forKey: claimed.fence)
            return (state.runs.count == 1, note)
        }
        if let note { run.stop(.cancelled(note: note)) }
        // After the run is in the table: the end of the lease and of the node first forbid starts and then stop what is
        // in the table, so that either finds it.
        if !pools.startRun(in: pool, under: grant) { run.stop(.released, grace: .zero) }
        if isFirst { firstRun.wake() }
        run.begin(runner) { [self] storeWakesClaimers in finished(run, storeWakesClaimers: storeWakesClaimers)
        }
    }

    // MARK: Stop

    func stop(_ fence: RunFence, note: String) {
        let run = state.withLock { state in
            if let run = state.runs[fence] { return Optional(run) }
            if state.earlyStops.count >= Self.earlyStopsMax { state.earlyStops = [:] }
            state.earlyStops[fence] = note
            return nil
        }
        run?.stop(.cancelled(note: note))
    }

    /// The store does not have the run for this node: another one may have it by now.
    func lose(_ fence: RunFence) {
        state.withLock { $0.runs[fence] }?.lose()
    }

    func stopAll(_ reason: RunSupervision.StopReason, grace: Duration) {
        for run in all { run.stop(reason, grace: grace) }
    }

    // MARK: End

    /// - Parameter storeWakesClaimers: whether `didFinishRuns`, which the store calls after the commit, wakes the claimers.
    private func finished(_ run: ActiveRun, storeWakesClaimers: Bool) {
        let isStopped = run.stopReason != nil
        if !isStopped { forget(run) }
        pools.runIsOver(in: run.pool, freesSlot: !isStopped)
        if !storeWakesClaimers { pools.wakeWaitingClaimers() }
        guard isStopped else { return }
        // Its lane has room. A handler that ignores its cancellation keeps its slot until it really ends.
        context.runtime.start { [self] in
            await run.waitForHandler()
            forget(run)
            pools.freeSlot(in: run.pool)
            pools.wakeWaitingClaimers()
        }
    }

    private func forget(_ run: ActiveRun) {
        state.withLock { $0.runs[run.claimed.fence] = nil }
    }
}
