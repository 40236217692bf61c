import DequeModule
import Synchronization

/// Collects what arrives while the last commit is in flight, and writes it with the next one.
///
/// One commit then costs many callers one flush of the disk, and an idle service has no added delay: the
/// first item goes at once. Items are written in the order in which they came, within each of the
/// `commitsAtOnce` streams.
package final class GroupCommit<Item: Sendable, Outcome: Sendable>: Sendable {
    package struct Limits: Sendable {
        /// Items of one commit.
        package var batchItemsMax = 2000
        /// Bytes of one commit, as `cost` counts them (a single larger item goes alone).
        package var batchBytesMax = 8 << 20
        /// Items that wait; more are refused.
        package var waitingItemsMax = 50_000
        package var waitingBytesMax = 64 << 20
        package var commitsAtOnce = 1

        package init() {}
    }

    private struct Waiting {
        var item: Item
        var cost: Int
        var continuation: CheckedContinuation<Result<Outcome, StoreError>, Never>
    }

    private struct State {
        var waiting: Deque<Waiting> = []
        var waitingBytes = 0
        var commits = 0
    }

    private let limits: Limits
    private let cost: @Sendable (Item) -> Int
    private let commit: @Sendable ([Item]) async -> [Result<Outcome, StoreError>]
    private let state = Mutex(State())

    /// - Parameters:
    ///   - cost: what an item takes of the byte limits.
    ///   - commit: writes the items in one transaction; one result per item, in order.
    package init(
        limits: Limits = Limits(), cost: @escaping @Sendable (Item) -> Int = { _ in 64 },
        commit: @escaping @Sendable ([Item]) async -> [Result<Outcome, StoreError>]
    ) {
        self.limits = limits
        self.cost = cost
        self.commit = commit
    }

    /// Returns once the item is committed. It is written even when the calling task is cancelled meanwhile:
    /// it may be on its way already.
    package func submit(_ item: Item) async throws(StoreError) -> Outcome {
        let cost = cost(item)
        let result: Result<Outcome, StoreError> = await withCheckedContinuation { continuation in
            let decision: Decision = state.withLock { state in
                guard state.waiting.count < limits.waitingItemsMax,
                    state.waitingBytes + cost <= limits.waitingBytesMax || state.waiting.isEmpty
                else { return .refuse }
                state.waiting.append(Waiting(item: item, cost: cost, continuation: continuation))
                state.waitingBytes += cost
                guard state.commits < limits.commitsAtOnce else { return .wait }
                state.commits += 1
                return .start
            }
            switch decision {
            case .refuse: continuation.resume(returning: .failure(.overloaded))
            case .wait: break
            case .start: Task { await self.run() }
            }
        }
        return try result.get()
    }

    private enum Decision { case refuse, wait, start }

    /// Commits batch after batch until nothing waits.
    private func run() async {
        while let batch = state.withLock({ nextBatch(&$0) }) {
            let results = await commit(batch.map(\.item))
            precondition(results.count == batch.count, "one result per item")
            for (waiting, result) in zip(batch, results) { waiting.continuation.resume(returning: result) }
        }
    }

    private func nextBatch(_ state: inout State) -> [Waiting]? {
        var batch: [Waiting] = []
        var bytes = 0
        while batch.count < limits.batchItemsMax, let next = state.waiting.first,
            batch.isEmpty || bytes + next.cost <= limits.batchBytesMax
        {
            batch.append(state.waiting.removeFirst())
            bytes += next.cost
        }
        state.waitingBytes -= bytes
        if batch.isEmpty {
            state.commits -= 1
            return nil
        }
        return batch
    }
}
