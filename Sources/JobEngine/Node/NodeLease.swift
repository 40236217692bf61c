import JobModel
import Logging
import Support
import Synchronization

/// The lease under which this node runs jobs: it registers the node, renews the lease, and stops all runs in time when that
/// does not succeed. It also announces the kinds of the node when they change.
final class NodeLease: Sendable {
    private let configuration: WorkerNode.Configuration
    private let store: any EngineStore
    private let runtime: EngineRuntime
    private let pools: RunnerPools
    private let runs: RunTable
    private let onPeers: @Sendable (Bool) -> Void
    private let logger: Logger
    /// The time at which the last successful registration or renewal was sent. `RunnerPools.hasLease` says whether the
    /// lease holds.
    private let renewedAt: Mutex<ContinuousClock.Instant>

    /// - Parameter onPeers: called at each renewal with whether other nodes are alive.
    init(
        _ configuration: WorkerNode.Configuration, store: any EngineStore, runtime: EngineRuntime,
        pools: RunnerPools, runs: RunTable, logger: Logger, onPeers: @escaping @Sendable (Bool) -> Void
    ) {
        self.configuration = configuration
        self.store = store
        self.runtime = runtime
        self.pools = pools
        self.runs = runs
        self.logger = logger
        self.onPeers = onPeers
        renewedAt = Mutex(runtime.now())
    }

    /// Announces the node under a new id and a new lease.
    func register() async throws(StoreError) {
        let announcement = pools.announcement
        let description = NodeDescription(
            id: runtime.uuid(), name: configuration.name, version: configuration.version,
            concurrency: announcement.concurrency, kinds: announcement.kinds)
        let sentAt = runtime.now()
        let registered = try await store.register(description, lease: configuration.lease)
        // Before the lease begins: the watchdog would end a lease that seems to be as old as the one before.
        renewedAt.withLock { $0 = sentAt }
        pools.beginLease(announcement, registered.kinds)
    }

    // MARK: Renewal

    /// Renews the lease three times in its length, until the task is cancelled.
    func renew() async {
        let lease = configuration.lease
        var wait = lease / 3
        // Several renewals fit into the rest of the lease. After an outage the nodes do not renew all at once.
        let longest = min(lease / 30, .milliseconds(500))
        var backoff = Backoff(initial: longest / 2, most: longest)
        var strays = StrayRuns()
        while !Task.isCancelled {
            try? await runtime.sleep(for: wait)
            guard !Task.isCancelled else { return }
            let sentAt = runtime.now()
            do throws(StoreError) {
                let renewal = try await store.renew(lease: lease, known: runs.fences, timeout: lease / 6)
                wait = lease / 3
                guard renewal.isAlive, pools.hasLease else {
                    try await startAgain()
                    continue
                }
                backoff.reset()
                renewedAt.withLock { $0 = sentAt }
                onPeers(renewal.hasPeers)
                for (run, note) in renewal.cancels { runs.stop(run, note: note) }
                for run in renewal.ghosts { runs.lose(run) }
                let lost = strays.lost(among: renewal.strays, grants: pools.grantWindow)
                // In tasks of their own: a renewal must not wait for connections that other writes hold.
                for run in lost { runtime.start { [self] in await release(run) } }
            } catch {
                wait = backoff.next(random: runtime.random())
                logger.warning("could not renew the lease", metadata: ["error": "\(error)"])
            }
        }
    }

    /// The lease has ended, for the database or for this node: its runs belong to others now, and it registers anew.
    private func startAgain() async throws(StoreError) {
        logger.error("the lease was lost: this node registers again")
        lose(grace: .zero)
        if pools.isStopping { return }
        try await store.endNode()
        try await register()
    }

    private func lose(grace: Duration) {
        // In this order: a run that starts meanwhile finds that it may not, or is in the table.
        pools.loseLease()
        runs.stopAll(.leaseLost, grace: max(.zero, grace))
    }

    /// Releases a run that the store has for this node and that is not in its table: the answer to its claim was lost.
    private func release(_ run: ClaimedRun) async {
        guard !runs.has(run.fence) else { return }
        func end(_ end: RunEnd) async -> FinishResult? {
            let verdict = OutcomeRules.verdict(
                of: end, attemptsUsed: run.attemptsUsed, maxAttempts: run.spec.maxAttempts,
                policy: run.spec.retryPolicy, random: 0)
            return try? await store.finish(FinishedRun(run, node: configuration.name, verdict: verdict))
        }
        var outcome = await end(.released)
        if case .cancelRequested(let note)? = outcome { outcome = await end(.cancelled(note: note)) }
        logger.warning(
            "released a run that this node has claimed and never received",
            metadata: ["job": "\(run.key.id)", "outcome": "\(outcome.map { "\($0)" } ?? "unknown")"])
    }

    // MARK: Watchdog

    /// Stops all runs when two thirds of the lease have passed without renewal, whatever the renewal waits for: none is
    /// left when the lease ends and others may take them.
    func watch() async {
        let lease = configuration.lease
        while !Task.isCancelled {
            try? await runtime.sleep(for: lease / 60)
            // In this order: `register` sets the time before the lease begins.
            guard pools.hasLease else { continue }
            let age = renewedAt.withLock(\.self).duration(to: runtime.now())
            guard age > lease * 2 / 3 else { continue }
            logger.error("the lease is about to end: runs are stopped")
            lose(grace: lease - age - lease / 15)
        }
    }

    // MARK: Announcements

    /// Announces the kinds whenever they change. What was not announced because the lease had ended, `register` announces
    /// under the next one.
    func announce() async {
        var backoff = Backoff(initial: .seconds(1), most: .seconds(10))
        while !Task.isCancelled {
            await pools.announcements.wait(atMost: .seconds(60), on: runtime)
            guard pools.hasLease, let announcement = pools.dueAnnouncement else { continue }
            do throws(StoreError) {
                if let numbers = try await store.announce(
                    kinds: announcement.kinds, concurrency: announcement.concurrency)
                {
                    pools.announced(announcement, numbers)
                }
                backoff.reset()
            } catch {
                logger.warning(
                    "could not announce a change of this node's kinds: trying again",
                    metadata: ["error": "\(error)"])
                try? await runtime.sleep(for: backoff.next(random: runtime.random()))
                pools.announcements.wake()
            }
        }
    }
}
