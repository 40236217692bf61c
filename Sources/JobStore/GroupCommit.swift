package import JobModel
import DequeModule
import Synchronization

/// Collects what arrives while the last commit is in flight, for the next one.
///
/// One commit then costs many callers one flush of the disk, and an idle service has no added delay: the
/// first item goes at once. There is one writer at a time: whoever submits the first item starts it, and it
/// takes batch after batch until nothing waits. Items are written in the order in which they came.
package final class GroupCommit<Item: Sendable, Outcome: Sendable>: Sendable {
    package struct Limits: Sendable {
        /// Items of one commit.
        package var batchItemsMax = 2000
        /// Bytes of one commit, as `cost` counts them (a single larger item goes alone).
        package var batchBytesMax = 8 << 20
        /// Items that wait; more are refused.
        package var waitingItemsMax = 50_000
        package var waitingBytesMax = 64 << 20

        package init() {}
    }

    /// Told what became of an item, once: on the writer's thread, or, when it is refused, by `submit` itself. It must
    /// not block.
    package typealias Completion = @Sendable (Result<Outcome, StoreError>) -> Void

    /// What is written together. Its callers wait until it is finished.
    package struct Batch: Sendable {
        package let items: [Item]
        fileprivate let completions: [Completion]

        /// One result per item, in order.
        package func finish(_ results: [Result<Outcome, StoreError>]) {
            precondition(results.count == items.count, "one result per item")
            for (completion, result) in zip(completions, results) { completion(result) }
        }
    }

    private struct Waiting {
        var item: Item
        var cost: Int
        let since = ContinuousClock.now
        var completion: Completion
    }

    private struct State {
        var waiting: Deque<Waiting> = []
        var waitingBytes = 0
        /// From the start of a writer until it is told that nothing waits.
        var isWriting = false
    }

    private enum Decision { case refuse, wait, start }

    private let limits: Limits
    private let cost: @Sendable (Item) -> Int
    private let state = Mutex(State())

    /// - Parameter cost: what an item takes of the byte limits.
    package init(limits: Limits = Limits(), cost: @escaping @Sendable (Item) -> Int = { _ in 64 }) {
        self.limits = limits
        self.cost = cost
    }

    /// Adds an item, and calls `completion` once it is committed.
    ///
    /// - Parameter startWriter: called when there is none; it sees to it that somebody, elsewhere, takes batches
    ///   until there is none.
    package func submit(_ item: Item, startWriter: () -> Void, completion: @escaping Completion) {
        let cost = cost(item)
        let decision: Decision = state.withLock { state in
            guard state.waiting.count < limits.waitingItemsMax,
                state.waitingBytes + cost <= limits.waitingBytesMax || state.waiting.isEmpty
            else { return .refuse }
            state.waiting.append(Waiting(item: item, cost: cost, completion: completion))
            state.waitingBytes += cost
            guard !state.isWriting else { return .wait }
            state.isWriting = true
            return .start
        }
        switch decision {
        case .refuse: completion(.failure(.overloaded))
        case .wait: break
        case .start: startWriter()
        }
    }

    /// Returns once the item is committed. It is written even when the calling task is cancelled meanwhile:
    /// it may be on its way already.
    package func submit(_ item: Item, startWriter: () -> Void) async throws(StoreError) -> Outcome {
        let result: Result<Outcome, StoreError> = await withCheckedContinuation { continuation in
            submit(item, startWriter: startWriter) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// When the longest waiting item came; nil: none waits.
    package var oldest: ContinuousClock.Instant? { state.withLock { $0.waiting.first?.since } }

    /// For a writer that could not begin: fails what has waited since `moment` or longer. False: nothing else waits,
    /// and the writer is one no longer.
    package func refuse(waitingSince moment: ContinuousClock.Instant, _ error: StoreError) -> Bool {
        let (refused, isWriting) = state.withLock { state in
            var refused: [Waiting] = []
            while let next = state.waiting.first, next.since <= moment {
                refused.append(state.waiting.removeFirst())
                state.waitingBytes -= next.cost
            }
            if state.waiting.isEmpty { state.isWriting = false }
            return (refused, state.isWriting)
        }
        for waiting in refused { waiting.completion(.failure(error)) }
        return isWriting
    }

    /// For the writer: what to write next; nil: nothing, and the writer is one no longer.
    package func nextBatch() -> Batch? {
        state.withLock { state in
            guard !state.waiting.isEmpty else {
                state.isWriting = false
                return nil
            }
            var items: [Item] = []
            var completions: [Completion] = []
            let countMax = min(state.waiting.count, limits.batchItemsMax)
            items.reserveCapacity(countMax)
            completions.reserveCapacity(countMax)
            var bytes = 0
            while items.count < countMax {
                bytes += state.waiting[0].cost
                if bytes > limits.batchBytesMax, !items.isEmpty { break }
                let next = state.waiting.removeFirst()
                state.waitingBytes -= next.cost
                items.append(next.item)
                completions.append(next.completion)
            }
            return Batch(items: items, completions: completions)
        }
    }
}
