// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

package import JobModel
package import Logging
import Metrics
import Support
import Synchronization

/// This process as a worker: it holds a lease, claims jobs up to its free slots, runs them, and writes how
/// they ended. It also does the chores that any node may do: rescue, due jobs, retention.
package final class WorkerNode: Sendable {
    package struct Configuration: Sendable {
        package var name: String
        package var version: String
        /// Jobs at once; 0: the node only serves the API.
        package var concurrency: Int
        /// How many jobs of a user may run at once in a queue that has no limit of its own.
        package var defaultUserLimit = JobLimits.userLimitDefault
        package var lease: Duration = .seconds(15)
        package var pollInterval: Duration = .seconds(1)
        /// What a stopped run has until it is given up.
        package var grace: Duration = .seconds(10)
        package var retention: Duration = .seconds(7 * 86_400)
        package var auditRetention: Duration = .seconds(90 * 86_400)

        package init(name: String, version: String, concurrency: Int) {
            self.name = name
            self.version = version
            self.concurrency = concurrency
        }
    }

    struct State {
        /// Written when a run starts and when it has ended; read by all. By token.
        var running: [Int64: ActiveRun] = [:]
        /// Written by `register`.
        var kinds: [Int32] = []
        /// Written by `shutdown`.
        var isStopping = false
        /// Written by `leaseLoop`: runs may start only under a lease.
        var hasLease = false
        /// When the renewal was sent that was last granted. Written by `register` and `leaseLoop`.
        var renewedAt: ContinuousClock.Instant
        /// Runs whose end is not written yet. Written when a run starts and by `finished`.
        var unwritten = 0
        /// Claims and starts on their way, and the slots that each holds: their runs are not in `running` yet. Written
        /// by `WorkerNode+Claim`, as are the next four.
        var grants: [Int64: Int] = [:]
        var nextGrant: Int64 = 0
        /// Claims on their way: they may have counted a lane's room before a run there ended.
        var claiming = 0
        /// Jobs may wait for a slot: until they have had their turn, none starts as it is enqueued.
        var isBehind = true
        /// Jobs may wait for room in their lanes: the end of a run makes some.
        var mayWait = true
        /// What was granted before belongs to a lease that was lost. Written by `register`.
        var firstGrantOfLease: Int64 = 1
        /// Tokens that somebody wants stopped and that are not here (yet). Bounded.
        var stopped: [Int64: String] = [:]
        /// Resumed when no end is left to be written.
        var drained: [CheckedContinuation<Void, Never>] = []
    }

    let store: any EngineStore
    let runtime: EngineRuntime
    let runners: [String: any JobRunner]
    package let configuration: Configuration
    let logger: Logger
    /// Tells watchers what a run says, and sees to it that it is saved.
    let publishAndSave: @Sendable (Notice) -> Void
    let onPeers: @Sendable (Bool) -> Void
    let state: Mutex<State>
    let claimSignal = WakeSignal()
    private let dueSignal = WakeSignal()
    let superviseSignal = WakeSignal()
    let telemetrySignal = WakeSignal()
    private let succeeded = Counter(label: "signalbox_jobs_succeeded_total")
    private let failedAttempts = Counter(label: "signalbox_attempts_failed_total")

    /// - Parameters:
    ///   - publish: tells watchers what a run says before it is written.
    ///   - onPeers: told at each renewal whether other nodes are alive.
    package init(
        store: any EngineStore, runners: [any JobRunner], configuration: Configuration, logger: Logger,
        runtime: EngineRuntime = .system, publish: @escaping @Sendable (Notice) -> Void,
        onPeers: @escaping @Sendable (Bool) -> Void
    ) {
        self.store = store
        self.runtime = runtime
        state = Mutex(State(renewedAt: runtime.now()))
        self.runners = Dictionary(uniqueKeysWithValues: runners.map { ($0.definition.kind, $0) })
        self.configuration = configuration
        self.logger = logger
        publishAndSave = { [telemetrySignal] in
            publish($0)
            telemetrySignal.wake()
        }
        self.onPeers = onPeers
    }

    package var kinds: Set<String> { configuration.concurrency > 0 ? Set(runners.keys) : [] }

    // MARK: What it hears

    /// Something was committed by this node.
    package func receive(_ notices: [Notice]) {
        // A job that started as it was enqueued comes as both events.
        var waiting = 0
        var isDelayed = false
        for notice in notices {
            switch notice {
            case .event(let event, _):
                if event.type == .started { waiting -= 1 }
                guard event.state == .pending else { continue }
                if let due = event.dueAt, due > event.at { isDelayed = true } else { waiting += 1 }
            case .cancelRequested(_, let token, let node, let reason):
                if node == store.nodeNumber { stop(token, reason: reason) }
            case .progress, .log, .uncertain: break
            }
        }
        if waiting > 0 { claimSignal.wake() }
        if isDelayed { dueSignal.wake() }
    }

    /// Another node has changed something.
    package func hint(hasCancels: Bool) {
        claimSignal.wake()
        guard hasCancels else { return }
        runtime.start { [self] in
            guard let cancels = try? await store.cancelRequests() else { return }
            for (token, reason) in cancels { stop(token, reason: reason) }
        }
    }

    func stop(_ token: Int64, reason: String) {
        let run = state.withLock { state in
            if let run = state.running[token] { return Optional(run) }
            // Its claim may be committed, and its answer on the way.
            if state.stopped.count >= 10_000 { state.stopped = [:] }
            state.stopped[token] = reason
            return nil
        }
        run?.stop(.cancelled(reason: reason))
    }

    // MARK: Life

    /// Announces the node. Called again under a new id after its lease was lost.
    package func register() async throws(StoreError) {
        let policies = runners.mapValues(\.definition.onInterruption)
        let description = NodeDescription(
            id: runtime.uuid(), name: configuration.name, version: configuration.version,
            concurrency: configuration.concurrency, kinds: configuration.concurrency > 0 ? policies : [:])
        let sentAt = runtime.now()
        let registered = try await store.register(description, lease: configuration.lease)
        state.withLock { state in
            state.kinds = Array(registered.kinds.values)
            state.hasLease = true
            state.renewedAt = sentAt
            state.firstGrantOfLease = state.nextGrant + 1
        }
        claimSignal.wake()
    }

    /// Works until the task is cancelled. Call `register` before.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.leaseLoop() }
            group.addTask { await self.leaseWatchdog() }
            group.addTask { await self.rescueLoop() }
            group.addTask { await self.dueLoop() }
            group.addTask { await self.retentionLoop() }
            group.addTask { await self.superviseLoop() }
            group.addTask { await self.telemetryLoop() }
            if configuration.concurrency > 0 { group.addTask { await self.claimLoop() } }
        }
    }

    /// Claims nothing from now on, lets runs finish for `grace`, gives the rest back, and says goodbye.
    package func shutdown(grace: Duration) async {
        state.withLock { $0.isStopping = true }
        let timer = runtime.start { [self] in
            guard (try? await runtime.sleep(for: grace)) != nil else { return }
            // A claim that began before would take what is given back. It is over in a moment, or the database is away.
            for _ in 0..<100 where state.withLock({ !$0.grants.isEmpty }) {
                guard (try? await runtime.sleep(for: .milliseconds(10))) != nil else { return }
            }
            for run in state.withLock({ Array($0.running.values) }) {
                run.stop(.released, grace: .seconds(1))
            }
            // Whatever is not written by then is rescued by another node, or by this one's next start.
            guard (try? await runtime.sleep(for: .seconds(3))) != nil else { return }
            logger.warning("runs are left behind, for others to rescue")
            for waiter in state.withLock({ $0.takeDrained() }) { waiter.resume() }
        }
        await withCheckedContinuation { continuation in
            let isIdle = state.withLock { state in
                if state.unwritten == 0, state.grants.isEmpty { return true }
                state.drained.append(continuation)
                return false
            }
            if isIdle { continuation.resume() }
        }
        timer.cancel()
        do throws(StoreError) {
            try await store.endNode()
        } catch {
            logger.warning("the node could not say goodbye", metadata: ["error": "\(error)"])
        }
    }

    // MARK: Claim and run

    /// One run, from its start to the commit of its end. Its only task is the handler's: to start another for each
    /// costs as much as all else that a short run takes here.
    func begin(_ run: ActiveRun, _ runner: any JobRunner) {
        logger.debug("run started", metadata: run.metadata())
        run.begin(runner) { [self] end in
            guard let end else {
                logger.warning("the run was dropped with its lease", metadata: run.metadata())
                finished(run)
                return wakeIfJobsMayWait()
            }
            guard run.hasTelemetry else { return write(end, of: run) }
            runtime.start { [self] in
                await run.saveTelemetry()
                write(end, of: run)
            }
        }
    }

    func wakeIfJobsMayWait() {
        if state.withLock({ $0.mayWait || $0.isBehind || $0.claiming > 0 }) { claimSignal.wake() }
    }

    /// Tries until it is written, or the run is somebody else's: a result is not lost to a database that is
    /// away for a while.
    private func write(_ end: RunEnd, of run: ActiveRun, backoff: Backoff = .writing) {
        let claimed = run.claimed
        let verdict = OutcomeRules.verdict(
            of: end, attempt: claimed.attemptOfBudget, maxAttempts: claimed.spec.maxAttempts,
            policy: claimed.spec.retryPolicy, random: runtime.random())
        store.finish(Ending(claimed, node: configuration.name, verdict: verdict)) { [self] outcome in
            switch outcome {
            case .success(.written):
                count(end)
                logger.debug("run ended", metadata: run.metadata(["end": "\(end.word)"]))
                finished(run)
            case .success(.cancelRequested(let reason)):
                write(.cancelled(reason: reason), of: run)
            case .success(.stale):
                logger.warning(
                    "the end of the run came after its lease", metadata: run.metadata(["end": "\(end.word)"]))
                finished(run)
            case .failure(let error):
                logger.warning(
                    "the end of the run is not written yet", metadata: run.metadata(["error": "\(error)"]))
                if run.stopReason == .leaseLost || !state.withLock(\.hasLease) { return finished(run) }
                runtime.start { [self] in
                    var backoff = backoff
                    try? await runtime.sleep(for: backoff.next(random: runtime.random()))
                    write(end, of: run, backoff: backoff)
                }
            }
        }
    }

    /// Its end is written, or never will be. Whoever calls this sees to it that the claimer wakes.
    private func finished(_ run: ActiveRun) {
        let isStopped = run.stopReason != nil
        let drained = state.withLock { state in
            state.unwritten -= 1
            if !isStopped { state.running[run.claimed.token] = nil }
            return state.takeDrainedIfIdle()
        }
        for waiter in drained { waiter.resume() }
        guard isStopped else { return }
        // Its lane has room. A handler that ignores its cancellation keeps its slot until it really ends.
        runtime.start { [self] in
            await run.waitForHandler()
            state.withLock { $0.running[run.claimed.token] = nil }
            wakeIfJobsMayWait()
        }
    }

    private func count(_ end: RunEnd) {
        switch end {
        case .succeeded: succeeded.increment()
        case .failed, .timedOut: failedAttempts.increment()
        case .cancelled, .released, .interrupted: break
        }
    }

    // MARK: Loops

    private func dueLoop() async {
        while !Task.isCancelled {
            var wait = configuration.pollInterval
            do throws(StoreError) {
                let due = try await store.promoteDue()
                if due.promoted > 0 { claimSignal.wake() }
                if let next = due.next { wait = min(wait, max(next, .milliseconds(1))) }
            } catch {
                logger.debug("due jobs were not looked for", metadata: ["error": "\(error)"])
            }
            await dueSignal.wait(atMost: wait, on: runtime)
        }
    }

    /// Rows that one statement removes: nothing else waits for it for long.
    private static let removedAtOnce = 1000

    private func retentionLoop() async {
        while !Task.isCancelled {
            var wait: Duration = .seconds(30)
            do throws(StoreError) {
                try await store.trimChanges()
                let removed = try await store.removeFinished(
                    olderThan: configuration.retention, atMost: Self.removedAtOnce)
                let trimmed = try await store.trimAudit(
                    olderThan: configuration.auditRetention, atMost: Self.removedAtOnce)
                // A steady trickle while there is more, so that nothing else waits for it.
                if removed == Self.removedAtOnce || trimmed == Self.removedAtOnce {
                    wait = .milliseconds(100)
                }
            } catch {
                logger.debug("what is old was not removed", metadata: ["error": "\(error)"])
            }
            try? await runtime.sleep(for: wait)
        }
    }

    /// Looks after timeouts 50 times a second while anything runs.
    private func superviseLoop() async {
        while !Task.isCancelled {
            let running = state.withLock { Array($0.running.values) }
            let now = runtime.now()
            for run in running { run.tick(now) }
            if running.isEmpty {
                await superviseSignal.wait(atMost: .seconds(60), on: runtime)
            } else {
                try? await runtime.sleep(for: .milliseconds(20))
            }
        }
    }

    /// Writes what runs have said, five times a second while they say anything.
    private func telemetryLoop() async {
        while !Task.isCancelled {
            await telemetrySignal.wait(atMost: .seconds(60), on: runtime)
            let running = state.withLock { Array($0.running.values) }
            let spoken = running.compactMap { run in run.takeTelemetry().map { (run, $0) } }
            guard !spoken.isEmpty else { continue }
            var isSaved = false
            do throws(StoreError) {
                try await store.save(spoken.map(\.1))
                isSaved = true
            } catch {
                logger.warning("progress was not written", metadata: ["error": "\(error)"])
                telemetrySignal.wake()
            }
            for (run, telemetry) in spoken { run.telemetryIsSaved(isSaved, telemetry) }
            try? await runtime.sleep(for: .milliseconds(200))
        }
    }
}

extension RunEnd {
    /// For logs.
    fileprivate var word: String {
        switch self {
        case .succeeded: "succeeded"
        case .failed(let error, _, _): error.reason
        case .timedOut: JobError.reasonTimeout
        case .cancelled: JobError.reasonCancelled
        case .released: JobError.reasonReleased
        case .interrupted: JobError.reasonInterrupted
        }
    }
}
