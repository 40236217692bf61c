import JobModel
import JobStore
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(3))) struct GroupCommitTests {
    /// Writes items times ten; the first commit waits for a gate.
    private final class Writer: Sendable {
        let batches: GroupCommit<Int, Int>
        let written = Kept()
        private let open: AsyncStream<Void>.Continuation
        private let writing = Atomic(0)
        private let gate: AsyncStream<Void>
        private let starts: AsyncStream<Void>
        private let started: AsyncStream<Void>.Continuation

        final class Kept: Sendable {
            private let batches = Mutex<[[Int]]>([])
            var all: [[Int]] { batches.withLock { $0 } }
            func add(_ batch: [Int]) -> Bool {
                batches.withLock {
                    $0.append(batch)
                    return $0.count == 1
                }
            }
        }

        init(_ limits: GroupCommit<Int, Int>.Limits, cost: @escaping @Sendable (Int) -> Int = { _ in 1 }) {
            let (gate, open) = AsyncStream<Void>.makeStream()
            let (starts, started) = AsyncStream<Void>.makeStream()
            self.open = open
            self.starts = starts
            self.started = started
            self.gate = gate
            batches = GroupCommit(limits: limits, cost: cost)
        }

        func submit(_ item: Int) async throws(StoreError) -> Int {
            try await batches.submit(item) { Task { await write() } }
        }

        private func write() async {
            while let batch = batches.nextBatch() {
                // One writer at a time.
                #expect(writing.add(1, ordering: .relaxed).newValue == 1)
                if written.add(batch.items) {
                    started.yield()
                    for await _ in gate { break }
                }
                writing.subtract(1, ordering: .relaxed)
                batch.finish(batch.items.map { .success($0 * 10) })
            }
        }

        func openGate() { open.yield() }

        func firstStarts() async {
            for await _ in starts { return }
        }
    }

    /// Submits all at once while a first item is being written. Opens the gate after `refusals` refusals.
    private func submit(
        _ items: [Int], to writer: Writer, refusals: Int
    ) async throws -> (answers: [Int], refused: Int) {
        let first = Task { try await writer.submit(0) }
        await writer.firstStarts()
        let outcome = try await withThrowingTaskGroup(of: Int?.self) { group in
            for item in items {
                group.addTask {
                    do {
                        return try await writer.submit(item)
                    } catch {
                        #expect(error as? StoreError == .overloaded)
                        return nil
                    }
                }
            }
            var refused = 0
            var answers: [Int] = []
            if refusals == 0 { writer.openGate() }
            for try await answer in group {
                if let answer { answers.append(answer) } else { refused += 1 }
                if refused == refusals { writer.openGate() }
            }
            return (answers: answers.sorted(), refused: refused)
        }
        #expect(try await first.value == 0)
        return outcome
    }

    @Test func eachItemGetsItsOwnAnswer() async throws {
        let writer = Writer(.init())
        let items = Array(1...500)
        let (answers, refused) = try await submit(items, to: writer, refusals: 0)
        #expect(answers == items.map { $0 * 10 } && refused == 0)
        #expect(writer.written.all.first == [0])
        #expect(writer.written.all.flatMap { $0 }.sorted() == [0] + items)
    }

    @Test func batchesAreBounded() async throws {
        var limits = GroupCommit<Int, Int>.Limits()
        limits.batchItemsMax = 7
        let writer = Writer(limits)
        _ = try await submit(Array(1...100), to: writer, refusals: 0)
        #expect(writer.written.all.allSatisfy { $0.count <= 7 })
    }

    @Test func bytesOfABatchAreBounded() async throws {
        var limits = GroupCommit<Int, Int>.Limits()
        limits.batchBytesMax = 100
        let writer = Writer(limits, cost: { $0 })
        // A larger one goes alone.
        _ = try await submit([30, 30, 30, 30, 1000, 99, 1, 1], to: writer, refusals: 0)
        for batch in writer.written.all { #expect(batch.reduce(0, +) <= 100 || batch == [1000]) }
    }

    @Test func waitingItemsAreBounded() async throws {
        var limits = GroupCommit<Int, Int>.Limits()
        limits.waitingItemsMax = 3
        let (answers, refused) = try await submit(Array(1...10), to: Writer(limits), refusals: 7)
        #expect(answers.count == 3 && refused == 7)
    }

    @Test func waitingBytesAreBounded() async throws {
        var limits = GroupCommit<Int, Int>.Limits()
        limits.waitingBytesMax = 100
        let items = [Int](repeating: 30, count: 10)
        let (answers, refused) = try await submit(items, to: Writer(limits, cost: { $0 }), refusals: 7)
        #expect(answers.count == 3 && refused == 7)
    }

    @Test func cancelledCallerStillGetsItsAnswer() async throws {
        let writer = Writer(.init())
        let task = Task { try await writer.submit(4) }
        await writer.firstStarts()
        task.cancel()
        writer.openGate()
        #expect(try await task.value == 40)
    }

    /// What callbacks were told, by item.
    private final class Heard: Sendable {
        private let outcomes = Mutex<[Int: [Result<Int, StoreError>]]>([:])
        var all: [Int: [Result<Int, StoreError>]] { outcomes.withLock { $0 } }
        func add(_ item: Int, _ outcome: Result<Int, StoreError>) {
            outcomes.withLock { $0[item, default: []].append(outcome) }
        }
    }

    @Test func callbackHearsOnceWhatBecameOfItsItem() {
        let batches = GroupCommit<Int, Int>()
        let heard = Heard()
        var starts = 0
        for item in 1...5 {
            batches.submit(item, startWriter: { starts += 1 }) { heard.add(item, $0) }
        }
        #expect(starts == 1 && heard.all.isEmpty)
        while let batch = batches.nextBatch() {
            var results: [Result<Int, StoreError>] = []
            for item in batch.items { results.append(item == 3 ? .failure(.notFound) : .success(item * 10)) }
            batch.finish(results)
        }
        let expected: [Int: [Result<Int, StoreError>]] = [
            1: [.success(10)], 2: [.success(20)], 3: [.failure(.notFound)], 4: [.success(40)],
            5: [.success(50)],
        ]
        #expect(heard.all == expected)
    }

    @Test func refusedCallbackHearsAtOnce() {
        var limits = GroupCommit<Int, Int>.Limits()
        limits.waitingItemsMax = 1
        let batches = GroupCommit<Int, Int>(limits: limits)
        let heard = Heard()
        var starts = 0
        for item in 1...2 {
            batches.submit(item, startWriter: { starts += 1 }) { heard.add(item, $0) }
        }
        #expect(starts == 1)
        var expected: [Int: [Result<Int, StoreError>]] = [2: [.failure(.overloaded)]]
        #expect(heard.all == expected)
        batches.nextBatch()?.finish([.success(10)])
        expected[1] = [.success(10)]
        #expect(heard.all == expected)
        #expect(batches.nextBatch() == nil)
    }

    /// The database is away: who has waited for long is told, who has just come goes on waiting.
    @Test func aWriterThatCannotBeginRefusesTheOldest() async throws {
        let batches = GroupCommit<Int, Int>()
        let (starts, started) = AsyncStream<Void>.makeStream()
        let first = Task { try await batches.submit(1) { started.yield() } }
        for await _ in starts { break }
        let moment = ContinuousClock.now
        let oldest = try #require(batches.oldest)
        #expect(oldest <= moment)
        // It came just before: a moment earlier it had not waited long enough.
        #expect(batches.refuse(waitingSince: oldest - .milliseconds(1), .unavailable("away")))
        #expect(!batches.refuse(waitingSince: moment, .unavailable("away")))
        await #expect(throws: StoreError.unavailable("away")) { try await first.value }
        // The next one starts a writer again.
        let second = Task { try await batches.submit(2) { started.yield() } }
        for await _ in starts { break }
        let batch = try #require(batches.nextBatch())
        batch.finish([.success(20)])
        #expect(try await second.value == 20 && batches.nextBatch() == nil && batches.oldest == nil)
    }
}
