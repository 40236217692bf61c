import JobModel
import Logging

/// Gives back the runs of nodes whose lease has ended. Every node looks for them once a second; the one that ends a run
/// first wins.
struct OrphanRescue: Sendable {
    let store: any EngineStore
    let runtime: EngineRuntime
    let logger: Logger

    func run() async {
        // The policies that were logged already.
        var unknown: Set<UnknownPolicy> = []
        while !Task.isCancelled {
            try? await runtime.sleep(for: .seconds(1))
            do throws(StoreError) {
                let orphans = try await store.orphans()
                // All at once: they share commits.
                await withDiscardingTaskGroup { group in
                    for orphan in orphans.runs { group.addTask { await rescue(orphan) } }
                }
                for policy in orphans.unknown where !unknown.contains(policy) {
                    logger.warning(
                        "runs of dead nodes wait for a node of a newer version: the interruption policy of their kind is unknown",
                        metadata: ["kind": "\(policy.kind)", "policy": "\(policy.policy)"])
                }
                unknown = Set(orphans.unknown)
            } catch {
                logger.debug("could not look for runs of dead nodes", metadata: ["error": "\(error)"])
            }
        }
    }

    private func rescue(_ orphan: OrphanedRun) async {
        let run = orphan.run
        let end: RunEnd =
            orphan.cancelNote.map { .cancelled(note: $0) } ?? .interrupted(orphan.onInterruption)
        let verdict = OutcomeRules.verdict(
            of: end, attemptsUsed: run.attemptsUsed, maxAttempts: run.spec.maxAttempts,
            policy: run.spec.retryPolicy, random: runtime.random())
        do throws(StoreError) {
            guard try await store.finish(FinishedRun(run, node: orphan.node, verdict: verdict)) == .written
            else {
                return
            }
            logger.warning(
                "rescued a run of a dead node",
                metadata: ["job": "\(run.key.id)", "attempt": "\(run.attempt)", "node": "\(orphan.node)"])
        } catch {
            logger.warning(
                "could not rescue a run of a dead node: trying again", metadata: ["error": "\(error)"])
        }
    }
}
