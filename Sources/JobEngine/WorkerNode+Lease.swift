import JobModel
import Logging
import Synchronization

/// The node's own lease, and what is left behind where one has ended.
extension WorkerNode {
    /// Renews the lease three times in its length, on a connection of its own.
    func leaseLoop() async {
        let lease = configuration.lease
        var wait = lease / 3
        // By token: the newest grant when it was first seen.
        var suspects: [Int64: Int64] = [:]
        while !Task.isCancelled {
            try? await runtime.sleep(for: wait)
            guard !Task.isCancelled else { return }
            let sentAt = runtime.now()
            let known = state.withLock { Array($0.running.keys) }
            do throws(StoreError) {
                let renewal = try await store.renew(lease: lease, known: known, timeout: lease / 6)
                wait = lease / 3
                guard renewal.isAlive, state.withLock(\.hasLease) else {
                    try await startAgain()
                    continue
                }
                state.withLock { $0.renewedAt = sentAt }
                onPeers(renewal.hasPeers)
                for (token, reason) in renewal.cancels { stop(token, reason: reason) }
                // Seen before, and every claim and start that was under way then is over: none explains it.
                let (newestGrant, oldestOpenGrant) = state.withLock { state in
                    (state.nextGrant, state.grants.keys.min() ?? .max)
                }
                let lost = renewal.strays.filter { (suspects[$0.token] ?? .max) < oldestOpenGrant }
                suspects = Dictionary(
                    renewal.strays.map { ($0.token, suspects[$0.token] ?? newestGrant) },
                    uniquingKeysWith: min)
                // Not here: the renewal must not wait for what the others wait for.
                for run in lost { runtime.start { [self] in await giveBack(run) } }
            } catch {
                wait = min(lease / 30, .milliseconds(500))
                logger.warning("the lease was not renewed", metadata: ["error": "\(error)"])
            }
        }
    }

    /// The lease has ended, for the database or for us: what we ran is others' now, and we begin anew.
    private func startAgain() async throws(StoreError) {
        logger.error("the lease was lost: this node begins anew")
        loseLease(grace: .zero)
        if state.withLock(\.isStopping) { return }
        try await store.endNode()
        try await register()
    }

    /// Stops all runs when two thirds of the lease have passed without renewal, whatever the renewal waits
    /// for: none is left when the lease ends and others may take them.
    func leaseWatchdog() async {
        let lease = configuration.lease
        while !Task.isCancelled {
            try? await runtime.sleep(for: lease / 60)
            let (hasLease, age) = state.withLock { ($0.hasLease, $0.renewedAt.duration(to: runtime.now())) }
            guard hasLease, age > lease * 2 / 3 else { continue }
            logger.error("the lease is about to end: runs are stopped")
            loseLease(grace: lease - age - lease / 15)
        }
    }

    /// A run that the database has for us and that nobody here runs: the answer to its claim was lost.
    private func giveBack(_ run: ClaimedRun) async {
        guard !state.withLock({ $0.running[run.token] != nil }) else { return }
        func end(_ end: RunEnd) async -> EndingOutcome? {
            let verdict = OutcomeRules.verdict(
                of: end, attempt: run.attemptOfBudget, maxAttempts: run.spec.maxAttempts,
                policy: run.spec.retryPolicy, random: 0)
            return try? await store.finish(Ending(run, node: configuration.name, verdict: verdict))
        }
        var outcome = await end(.released)
        if case .cancelRequested(let reason)? = outcome { outcome = await end(.cancelled(reason: reason)) }
        logger.warning(
            "a run without a runner was given back",
            metadata: ["job": "\(run.key.id)", "outcome": "\(outcome.map { "\($0)" } ?? "unknown")"])
    }

    private func loseLease(grace: Duration) {
        let running = state.withLock { state in
            state.hasLease = false
            return Array(state.running.values)
        }
        for run in running { run.stop(.leaseLost, grace: max(.zero, grace)) }
    }

    func rescueLoop() async {
        var unknown: Set<UnknownPolicy> = []
        while !Task.isCancelled {
            try? await runtime.sleep(for: .seconds(1))
            do throws(StoreError) {
                let orphans = try await store.orphans()
                // All at once: they share commits.
                await withDiscardingTaskGroup { group in
                    for orphan in orphans.runs { group.addTask { await self.rescue(orphan) } }
                }
                for policy in orphans.unknown where !unknown.contains(policy) {
                    logger.warning(
                        "runs of dead nodes are left to nodes of a newer version, which know the policy of their kind",
                        metadata: ["kind": "\(policy.kind)", "policy": "\(policy.policy)"])
                }
                unknown = Set(orphans.unknown)
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
            policy: run.spec.retryPolicy, random: runtime.random())
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
}
