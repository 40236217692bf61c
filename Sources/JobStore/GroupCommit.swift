package import JobModel
import DequeModule
import Synchronization

/// Collects the items that arrive while a commit is in flight, for the next commit.
///
/// Many callers then share one flush of the disk, and an idle service adds no delay, because the first item is written at
/// once. There is one writer at a time: the call that submits the first item starts it, and it takes batch after batch until
/// no item waits. Items are written in the order in which they arrived.
package final class GroupCommit<Item: Sendable, Outcome: Sendable>: Sendable {
    package struct Limits: Sendable {
        /// The most items of one commit.
        package var batchItemsMax = 2000
        /// The most bytes of one commit, as `cost` counts them. A single larger item is written alone.
        package var batchBytesMax = 8 << 20
        /// The most items that wait; more are refused.
        package var waitingItemsMax = 50_000
        package var waitingBytesMax = 64 << 20

        package init() {}
    }

    /// Called once with the result of an item, on the writer's thread or, if the item is refused, by `submit`. It must not
    /// block.
    package typealias Completion = @Sendable (Result<Outcome, StoreError>) -> Void

    /// Items that are written together. Their callers wait until `finish` is called.
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
        /// Whether there is a writer. It ends when it finds that no item waits.
        var isWriting = false
    }

    private enum Decision { case refuse, wait, start }

    private let limits: Limits
    private let cost: @Sendable (Item) -> Int
    private let state = Mutex(State())

    /// - Parameter cost: the bytes of an item that count towards the limits.
    package init(limits: Limits = Limits(), cost: @escaping @Sendable (Item) -> Int = { _ in 64 }) {
        self.limits = limits
        self.cost = cost
    }

    /// Adds an item, and calls `completion` once it is committed.
    ///
    /// - Parameter startWriter: called when there is no writer. It must start one that takes batches on another thread until
    ///   there are none.
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

    /// Adds an item and returns once it is committed. Cancelling the task does not stop that, because the item
    /// may already be in flight.
    package func submit(_ item: Item, startWriter: () -> Void) async throws(StoreError) -> Outcome {
        let result: Result<Outcome, StoreError> = await withCheckedContinuation { continuation in
            submit(item, startWriter: startWriter) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// The time at which the item that has waited longest arrived; nil if no item waits.
    package var oldest: ContinuousClock.Instant? { state.withLock { $0.waiting.first?.since } }

    /// Fails the items that have waited since `moment` or longer, for a writer that could not begin. Returns
    /// false if no other item waits; the writer must end then.
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

    /// The next batch, for the writer. Nil if no item waits; the writer must end then.
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
