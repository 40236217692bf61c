import FoundationEssentials
import JobCore
package import JobStore
package import Logging
import Metrics
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

        package init(name: String, version: String, concurrency: Int) {
            self.name = name
            self.version = version
            self.concurrency = concurrency
        }
    }

    private struct State {
        /// Written by `claimLoop` and the end of each run; read by all. By token.
        var running: [Int64: ActiveRun] = [:]
        /// Written by `register`.
        var kinds: [Int32] = []
        /// Written by `shutdown`.
        var isStopping = false
        /// Written by `leaseLoop`: runs may start only under a lease.
        var hasLease = false
        /// Resumed when the last run has ended.
        var drained: [CheckedContinuation<Void, Never>] = []
    }

    private let store: JobStore
    private let runners: [String: any JobRunner]
    package let configuration: Configuration
    private let logger: Logger
    private let publish: @Sendable (Notice) -> Void
    private let onPeers: @Sendable (Bool) -> Void
    private let state = Mutex(State())
    private let claimSignal = WakeSignal()
    private let dueSignal = WakeSignal()
    private let superviseSignal = WakeSignal()
    private let telemetrySignal = WakeSignal()
    private let succeeded = Counter(label: "signalbox_jobs_succeeded_total")
    private let failedAttempts = Counter(label: "signalbox_attempts_failed_total")

    /// - Parameters:
    ///   - publish: tells watchers what a run says before it is written.
    ///   - onPeers: told at each renewal whether other nodes are alive.
    package init(
        store: JobStore, runners: [any JobRunner], configuration: Configuration, logger: Logger,
        publish: @escaping @Sendable (Notice) -> Void, onPeers: @escaping @Sendable (Bool) -> Void
    ) {
        self.store = store
        self.runners = Dictionary(uniqueKeysWithValues: runners.map { ($0.definition.kind, $0) })
        self.configuration = configuration
        self.logger = logger
        self.publish = publish
        self.onPeers = onPeers
    }

    package var kinds: Set<String> { configuration.concurrency > 0 ? Set(runners.keys) : [] }

    // MARK: What it hears

    /// Something was committed by this node.
    package func receive(_ notices: [Notice]) {
        var mayClaim = false
        var isDelayed = false
        for notice in notices {
            switch notice {
            case .event(let event, _):
                guard event.state == .pending else { continue }
                mayClaim = true
                if event.type == .enqueued || event.type == .retryScheduled { isDelayed = true }
            case .cancelRequested(_, let token, let node, let reason):
                if node == store.nodeNumber { stop(token, reason: reason) }
            case .progress, .log: break
            }
        }
        if mayClaim { claimSignal.wake() }
        if isDelayed { dueSignal.wake() }
    }

    /// Another node has changed something.
    package func hint(hasCancels: Bool) {
        claimSignal.wake()
        guard hasCancels else { return }
        Task {
            guard let cancels = try? await store.cancelRequests() else { return }
            for (token, reason) in cancels { stop(token, reason: reason) }
        }
    }

    private func stop(_ token: Int64, reason: String) {
        state.withLock { $0.running[token] }?.stop(.cancelled(reason: reason))
    }

    // MARK: Life

    /// Announces the node. Called again under a new id after its lease was lost.
    package func register() async throws(StoreError) {
        let policies = runners.mapValues(\.definition.onInterruption)
        let description = NodeDescription(
            id: UUID(), name: configuration.name, version: configuration.version,
            concurrency: configuration.concurrency, kinds: configuration.concurrency > 0 ? policies : [:])
        let registered = try await store.register(description, lease: configuration.lease)
        state.withLock { state in
            state.kinds = registered.kinds
            state.hasLease = true
        }
        claimSignal.wake()
    }

    /// Works until the task is cancelled. Call `register` before.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.leaseLoop() }
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
        let timer = Task {
            try await Task.sleep(for: grace)
            for run in state.withLock({ Array($0.running.values) }) {
                run.stop(.released, grace: .seconds(1))
            }
        }
        await withCheckedContinuation { continuation in
            let isIdle = state.withLock { state in
                if state.running.isEmpty { return true }
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

    private func claimLoop() async {
        var cursor = ClaimCursor()
        while !Task.isCancelled {
            await claimSignal.wait(atMost: configuration.pollInterval)
            do throws(StoreError) {
                var hasMore = true
                // A whole turn over the lanes that finds nothing ends it, however many lanes wait for room.
                var foundCount = 0
                var turns = 0
                while hasMore, !Task.isCancelled {
                    let (slots, kinds) = freeSlots()
                    guard slots > 0 else { break }
                    let request = ClaimRequest(
                        slots: slots, kinds: kinds, cursor: cursor,
                        defaultUserLimit: configuration.defaultUserLimit)
                    let claim = try await store.claim(request)
                    cursor = claim.cursor
                    hasMore = claim.hasMore
                    for run in claim.runs { start(run) }
                    foundCount += claim.runs.count
                    guard claim.cursor.lane == 0 else { continue }
                    if foundCount == 0, turns > 0 { break }
                    foundCount = 0
                    turns += 1
                }
            } catch {
                logger.warning("jobs could not be claimed", metadata: ["error": "\(error)"])
            }
        }
    }

    private func freeSlots() -> (slots: Int, kinds: [Int32]) {
        state.withLock { state in
            guard !state.isStopping, state.hasLease else { return (0, []) }
            return (configuration.concurrency - state.running.count, state.kinds)
        }
    }

    private func start(_ claimed: ClaimedRun) {
        guard let runner = runners[claimed.spec.kind] else {
            // The claim names our kinds, so this is a bug; the job is not lost, its lease ends with ours.
            logger.error(
                "a job of a kind without handler was claimed", metadata: ["kind": "\(claimed.spec.kind)"])
            return
        }
        let run = ActiveRun(
            claimed, definition: runner.definition, grace: configuration.grace, store: store,
            clock: { Timestamp.now },
            publish: { [publish, telemetrySignal] in
                publish($0)
                telemetrySignal.wake()
            })
        let isFirst = state.withLock { state in
            state.running[claimed.token] = run
            return state.running.count == 1
        }
        if isFirst { superviseSignal.wake() }
        Task { await execute(run, runner) }
    }

    /// One run, from its start to the commit of its end.
    private func execute(_ run: ActiveRun, _ runner: any JobRunner) async {
        let logger = logger(for: run)
        logger.debug("run started")
        let end = await run.run(runner)
        if let end {
            await write(end, of: run, logger)
        } else {
            logger.warning("the run was dropped with its lease")
        }
        // A handler that ignores its cancellation keeps its slot until it really ends.
        if run.stopReason != nil { await run.waitForHandler() }
        let drained = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.running[run.claimed.token] = nil
            guard state.running.isEmpty else { return [] }
            defer { state.drained = [] }
            return state.drained
        }
        for waiter in drained { waiter.resume() }
        claimSignal.wake()
    }

    /// Tries until it is written, or the run is somebody else's: a result is not lost to a database that is
    /// away for a while.
    private func write(_ end: RunEnd, of run: ActiveRun, _ logger: Logger) async {
        if let telemetry = run.takeTelemetry() { try? await store.save([telemetry]) }
        var end = end
        var delay: Duration = .milliseconds(50)
        while true {
            let claimed = run.claimed
            let verdict = OutcomeRules.verdict(
                of: end, attempt: claimed.attemptOfBudget, maxAttempts: claimed.spec.maxAttempts,
                policy: claimed.spec.retryPolicy, random: .random(in: 0..<1))
            do throws(StoreError) {
                switch try await store.finish(Ending(claimed, node: configuration.name, verdict: verdict)) {
                case .written:
                    count(end)
                    return logger.debug("run ended", metadata: ["end": "\(end.word)"])
                case .cancelRequested(let reason):
                    end = .cancelled(reason: reason)
                case .stale:
                    return logger.warning(
                        "the end of the run came after its lease", metadata: ["end": "\(end.word)"])
                }
            } catch {
                logger.warning("the end of the run is not written yet", metadata: ["error": "\(error)"])
                if run.stopReason == .leaseLost { return }
                try? await Task.sleep(for: delay)
                delay = min(delay * 2, .seconds(1))
            }
        }
    }

    private func count(_ end: RunEnd) {
        switch end {
        case .succeeded: succeeded.increment()
        case .failed, .timedOut: failedAttempts.increment()
        case .cancelled, .released, .interrupted: break
        }
    }

    private func logger(for run: ActiveRun) -> Logger {
        var logger = logger
        logger[metadataKey: "job"] = "\(run.jobID)"
        logger[metadataKey: "attempt"] = "\(run.attempt)"
        logger[metadataKey: "user"] = "\(run.userID)"
        return logger
    }

    // MARK: Loops

    /// Renews the lease three times in its length. When that fails for two thirds of it, the node's runs
    /// are stopped, so that none is left when the lease ends and others may take them.
    private func leaseLoop() async {
        let interval = configuration.lease / 3
        var renewedAt = ContinuousClock.now
        var wait = interval
        while !Task.isCancelled {
            try? await Task.sleep(for: wait)
            guard !Task.isCancelled else { return }
            let sentAt = ContinuousClock.now
            do throws(StoreError) {
                let renewal = try await store.renew(lease: configuration.lease)
                if renewal.isAlive {
                    renewedAt = sentAt
                    wait = interval
                    onPeers(renewal.hasPeers)
                    for (token, reason) in renewal.cancels { stop(token, reason: reason) }
                    continue
                }
                logger.error("the lease was lost: this node was thought dead")
                loseLease(grace: .zero)
                if state.withLock(\.isStopping) { return }
                try await register()
                renewedAt = sentAt
                wait = interval
            } catch {
                wait = .milliseconds(500)
                logger.warning("the lease was not renewed", metadata: ["error": "\(error)"])
                let age = renewedAt.duration(to: .now)
                if age > configuration.lease * 2 / 3, state.withLock(\.hasLease) {
                    logger.error("the lease is about to end: runs are stopped")
                    loseLease(grace: configuration.lease - age - .seconds(1))
                }
            }
        }
    }

    private func loseLease(grace: Duration) {
        let running = state.withLock { state in
            state.hasLease = false
            return Array(state.running.values)
        }
        for run in running { run.stop(.leaseLost, grace: max(.zero, grace)) }
    }

    private func rescueLoop() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(1))
            do throws(StoreError) {
                for orphan in try await store.orphans() { await rescue(orphan) }
            } catch {
                logger.debug("runs of dead nodes were not looked for", metadata: ["error": "\(error)"])
            }
        }
    }

    private func rescue(_ orphan: OrphanedRun) async {
        let run = orphan.run
        let end: RunEnd =
            orphan.cancelReason.map { .cancelled(reason: $0) } ?? .interrupted(orphan.onInterruption)
        let verdict = OutcomeRules.verdict(
            of: end, attempt: run.attemptOfBudget, maxAttempts: run.spec.maxAttempts,
            policy: run.spec.retryPolicy, random: .random(in: 0..<1))
        do throws(StoreError) {
            guard try await store.finish(Ending(run, node: orphan.node, verdict: verdict)) == .written else {
                return
            }
            logger.warning(
                "a run of a dead node was taken back",
                metadata: ["job": "\(run.key.id)", "attempt": "\(run.attempt)", "node": "\(orphan.node)"])
        } catch {
            logger.warning("a run of a dead node was not taken back yet", metadata: ["error": "\(error)"])
        }
    }

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
            await dueSignal.wait(atMost: wait)
        }
    }

    private func retentionLoop() async {
        while !Task.isCancelled {
            var wait: Duration = .seconds(30)
            do throws(StoreError) {
                try await store.trimChanges()
                let removed = try await store.removeFinished(olderThan: configuration.retention)
                // A steady trickle while there is more, so that nothing else waits for it.
                if removed == JobStore.jobsRemovedAtOnce { wait = .milliseconds(100) }
            } catch {
                logger.debug("old jobs were not removed", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: wait)
        }
    }

    /// Looks after timeouts 50 times a second while anything runs.
    private func superviseLoop() async {
        while !Task.isCancelled {
            let running = state.withLock { Array($0.running.values) }
            let now = ContinuousClock.now
            for run in running { run.tick(now) }
            if running.isEmpty {
                await superviseSignal.wait(atMost: .seconds(60))
            } else {
                try? await Task.sleep(for: .milliseconds(20))
            }
        }
    }

    /// Writes what runs have said, five times a second while they say anything.
    private func telemetryLoop() async {
        while !Task.isCancelled {
            await telemetrySignal.wait(atMost: .seconds(60))
            let telemetry = state.withLock { Array($0.running.values) }.compactMap { $0.takeTelemetry() }
            guard !telemetry.isEmpty else { continue }
            do throws(StoreError) {
                try await store.save(telemetry)
            } catch {
                logger.warning("progress was not written", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: .milliseconds(200))
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
