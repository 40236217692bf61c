// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

package import JobModel
package import Logging
import Synchronization

/// This process as a worker: it holds a lease, claims jobs up to its free slots, runs them, and writes how they ended. It
/// also does the chores of the cluster, which every node does, with slots or without.
package final class WorkerNode: ChangeSubscriber, Sendable {
    package struct Configuration: Sendable {
        package var name: String
        package var version: String
        /// Jobs at once; 0: the node only serves the API.
        package var concurrency: Int
        /// The number of jobs of a user that may run at once in a queue that has no limit of its own.
        package var defaultUserLimit = JobLimits.userLimitDefault
        package var lease: Duration = .seconds(15)
        package var pollInterval: Duration = .seconds(1)
        /// The time that a run has to end after it was asked to stop.
        package var grace: Duration = .seconds(10)
        package var retention: Duration = .seconds(7 * 86_400)
        package var auditRetention: Duration = .seconds(90 * 86_400)

        package init(name: String, version: String, concurrency: Int) {
            self.name = name
            self.version = version
            self.concurrency = concurrency
        }
    }

    private let configuration: Configuration
    private let store: any EngineStore
    private let runtime: EngineRuntime
    private let logger: Logger
    private let pools: RunnerPools
    private let runs: RunTable
    private let lease: NodeLease
    private let runUpdated = AutoResetEvent()
    private let jobWasScheduled = AutoResetEvent()
    private let cancelsRequested = AutoResetEvent()
    private let lastShutdown = Mutex<Task<Void, Never>?>(nil)

    /// - Parameters:
    ///   - runners: with `configuration.concurrency` slots they are the first pool; with none there is no pool.
    ///   - publish: passes on what a run says before it is saved. It must not block.
    ///   - onPeers: called at each renewal with whether other nodes are alive.
    package init(
        store: any EngineStore, runners: [any JobRunner], configuration: Configuration, logger: Logger,
        runtime: EngineRuntime, publish: @escaping @Sendable (LocalChange) -> Void,
        onPeers: @escaping @Sendable (Bool) -> Void
    ) {
        self.store = store
        self.runtime = runtime
        self.configuration = configuration
        self.logger = logger
        let context = RunContext(
            store: store, runtime: runtime, node: configuration.name, grace: configuration.grace,
            logger: logger
        ) { [runUpdated] in
            publish($0)
            runUpdated.wake()
        }
        pools = RunnerPools(defaultUserLimit: configuration.defaultUserLimit, runtime: runtime)
        runs = RunTable(context: context, pools: pools)
        lease = NodeLease(
            configuration, store: store, runtime: runtime, pools: pools, runs: runs, logger: logger,
            onPeers: onPeers)
        if configuration.concurrency > 0 { _ = pools.add(runners, concurrency: configuration.concurrency) }
    }

    /// Whether a pool of this node handles the kind, announced or not.
    package func handles(_ kind: String) -> Bool { pools.handles(kind) }

    // MARK: Pools

    /// Adds runners with slots of their own. Their jobs are claimed once the kinds are announced, which is tried until it
    /// succeeds.
    ///
    /// - Parameters:
    ///   - runners: each for another kind. Another pool may handle the same kind.
    ///   - concurrency: at least 1.
    // used by tests so far
    package func addPool(_ runners: [any JobRunner], concurrency: Int) -> RunnerPool {
        pools.add(runners, concurrency: concurrency)
    }

    /// The pool gets no more runs. Those that it has go on.
    // used by tests so far
    package func removePool(_ pool: RunnerPool) {
        pools.remove(pool)
    }

    // MARK: Events

    /// Something was committed by this node.
    package func receive(_ changes: [LocalChange]) {
        // A job that started as it was enqueued comes as both events.
        var waiting = 0
        var isScheduled = false
        for change in changes {
            switch change {
            case .event(let event, _):
                if event.type == .started { waiting -= 1 }
                guard event.state == .pending else { continue }
                if let due = event.dueAt, due > event.at { isScheduled = true } else { waiting += 1 }
            case .cancelRequested(_, let run, let node, let note):
                if node == store.nodeNumber { runs.stop(run, note: note) }
            case .progress, .log, .uncertain: break
            }
        }
        if waiting > 0 { pools.wakeAllClaimers() }
        if isScheduled { jobWasScheduled.wake() }
    }

    package func wake(hasCancels: Bool) {
        pools.wakeAllClaimers()
        if hasCancels { cancelsRequested.wake() }
    }

    // MARK: Life

    /// Announces the node.
    package func register() async throws(StoreError) { try await lease.register() }

    /// Works until the task is cancelled. Call `register` before, and this once.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.lease.renew() }
            group.addTask { await self.lease.watch() }
            group.addTask { await self.lease.announce() }
            addRunning(to: &group)
            addChores(to: &group)
            for await pool in pools.added {
                let claimer = Claimer(
                    pool: pool, pools: pools, runs: runs, store: store, runtime: runtime,
                    pollInterval: configuration.pollInterval, logger: logger)
                group.addTask { await claimer.run() }
            }
        }
    }

    private func addRunning(to group: inout DiscardingTaskGroup) {
        let supervisor = RunSupervisor(runs: runs, runtime: runtime)
        let updates = RunUpdateWriter(
            runs: runs, store: store, runtime: runtime, logger: logger, updated: runUpdated)
        let cancels = CancelRequests(runs: runs, store: store, runtime: runtime, requested: cancelsRequested)
        group.addTask { await supervisor.run() }
        group.addTask { await updates.run() }
        group.addTask { await cancels.run() }
    }

    private func addChores(to group: inout DiscardingTaskGroup) {
        let rescue = OrphanRescue(store: store, runtime: runtime, logger: logger)
        let dueJobs = DueJobs(
            store: store, runtime: runtime, pollInterval: configuration.pollInterval, logger: logger,
            scheduled: jobWasScheduled, onReady: { [pools] in pools.wakeAllClaimers() })
        let retention = Retention(
            store: store, runtime: runtime, jobs: configuration.retention,
            audit: configuration.auditRetention,
            logger: logger)
        group.addTask { await rescue.run() }
        group.addTask { await dueJobs.run() }
        group.addTask { await retention.run() }
    }

    /// Claims nothing from now on, lets runs finish for `grace`, gives the others back, and ends the lease. It takes 5
    /// seconds longer than `grace` at most, and what the database takes for the last of it. A cancelled task does not end it
    /// earlier. A second call waits for the first.
    package func shutdown(grace: Duration) async {
        let shutdown = lastShutdown.withLock { last in
            let earlier = last
            let task = runtime.start { [self] in
                await earlier?.value
                await drain(grace: grace)
                await endLease()
            }
            last = task
            return task
        }
        await shutdown.value
    }

    private func drain(grace: Duration) async {
        pools.stop()
        if await pools.drained(within: grace) { return }
        // A claim that began before would take what is given back. It is over soon, or the database is away.
        await pools.endOfGrants(within: .seconds(1))
        runs.stopAll(.released, grace: .seconds(1))
        if await pools.drained(within: .seconds(3)) { return }
        // Ends that are not written by then are rescued by another node, or by this one's next start.
        logger.warning("some runs have not ended: other nodes will rescue them")
        runs.stopAll(.leaseLost, grace: .zero)
    }

    private func endLease() async {
        do throws(StoreError) {
            try await store.endNode()
        } catch {
            logger.warning("could not deregister the node", metadata: ["error": "\(error)"])
        }
    }
}

extension WorkerNode: RunStarter {
    package func beginStart(upTo count: Int) -> StartGrant? { pools.beginStart(upTo: count) }

    package func start(_ claimed: [ClaimedRun], under grant: StartGrant) {
        runs.start(claimed, under: grant)
    }

    package func endStart(_ grant: StartGrant) { pools.endStart(grant) }

    package func didFinishRuns() { pools.wakeWaitingClaimers() }
}
