// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

import JobModel
import Synchronization

/// Runners that share a number of slots: those of this process are one pool. Others may come and go while the node lives.
package final class RunnerPool: Sendable {
    let id: SlotLedger.PoolID
    /// Jobs at once.
    let concurrency: Int
    /// Ends a wait of the pool's claimer.
    let claims = AutoResetEvent()
    private let runners: [String: any JobRunner]
    private let closed = Atomic(false)

    /// - Parameter runners: each for another kind.
    init(id: SlotLedger.PoolID, runners: [any JobRunner], concurrency: Int) {
        self.id = id
        self.concurrency = concurrency
        self.runners = Dictionary(uniqueKeysWithValues: runners.map { ($0.definition.kind, $0) })
    }

    /// Each kind, and what becomes of a run of it whose node died.
    var kinds: [String: Interruption] { runners.mapValues(\.definition.onInterruption) }

    func runner(of kind: String) -> (any JobRunner)? { runners[kind] }

    var isClosed: Bool { closed.load(ordering: .acquiring) }

    /// Its claimer ends at the next wake.
    func close() { closed.store(true, ordering: .releasing) }
}
