import JobModel
import Logging
import Support
import Synchronization
import TestDatabase
import Testing

@testable import JobStore

/// The feed of node `one`, with subscribers that keep what they are called with.
@Suite(.timeLimit(.minutes(3))) struct ChangeFeedTests {
    private final class Subscriber: ChangeSubscriber {
        enum Call: Sendable, Equatable {
            case receive([JobEventType])
            case wake(hasCancels: Bool)
            case deliver([Int64])
            case missed
        }

        private struct State {
            var interest: ChangeInterest
            var failuresLeft: Int
        }

        /// For one reader. Deliveries without a change are left out.
        let calls: AsyncStream<Call>
        private let called: AsyncStream<Call>.Continuation
        private let state: Mutex<State>
        private let onReceive: @Sendable () -> Void

        init(
            _ interest: ChangeInterest = .cancels, failures: Int = 0,
            onReceive: @escaping @Sendable () -> Void = {}
        ) {
            (calls, called) = AsyncStream.makeStream()
            state = Mutex(State(interest: interest, failuresLeft: failures))
            self.onReceive = onReceive
        }

        var interest: ChangeInterest { state.withLock(\.interest) }

        func receive(_ changes: [LocalChange]) {
            onReceive()
            called.yield(
                .receive(changes.compactMap { if case .event(let event, _) = $0 { event.type } else { nil } })
            )
        }

        func wake(hasCancels: Bool) { called.yield(.wake(hasCancels: hasCancels)) }

        func deliver(_ changes: [RemoteChange]) async throws(StoreError) {
            guard !changes.isEmpty else { return }
            called.yield(.deliver(changes.map(\.sequence)))
            let fails = state.withLock { state in
                state.failuresLeft -= 1
                return state.failuresLeft >= 0
            }
            if fails { throw .unavailable("not now") }
        }

        func changesWereMissed() { called.yield(.missed) }

        /// The first calls, as many as these, in any order.
        func hasCalls(_ expected: [Call]) async -> Bool {
            var missing = expected
            for await call in calls.prefix(expected.count) {
                guard let index = missing.firstIndex(of: call) else { return false }
                missing.remove(at: index)
            }
            return missing.isEmpty
        }

        /// The calls up to the first of this kind.
        func calls(upTo last: Call) async -> [Call] {
            var all: [Call] = []
            for await call in calls {
                all.append(call)
                if call == last { break }
            }
            return all
        }
    }

    private func with(
        opens: Bool = true, _ subscribers: [Subscriber], _ body: (Bench, ChangeFeed) async throws -> Void
    ) async throws {
        try await Bench.with { bench in
            var configuration = ChangeFeed.Configuration()
            configuration.pollInterval = .milliseconds(5)
            let feed = ChangeFeed(
                store: bench.store, configuration: configuration,
                logger: Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() })
            for subscriber in subscribers { feed.subscribe(subscriber) }
            if opens { try await feed.open() }
            let running = Task { await feed.run() }
            defer { running.cancel() }
            try await body(bench, feed)
            running.cancel()
            await running.value
        }
    }

    /// Before the caller of the store gets its answer, in the order of the commits, and in that of the subscriptions.
    @Test func commitsOfThisNodeArePublishedInOrder() async throws {
        let order = Mutex<[Int]>([])
        let subscribers = (0..<2).map { number in
            Subscriber(onReceive: { order.withLock { $0.append(number) } })
        }
        try await with(subscribers) { bench, _ in
            let run = try await bench.start()
            try await bench.finish(run, .success)
            #expect(order.withLock { $0 } == [0, 1, 0, 1, 0, 1])
            for subscriber in subscribers {
                let calls = await subscriber.calls(upTo: .receive([.succeeded]))
                #expect(calls == [.receive([.enqueued]), .receive([.started]), .receive([.succeeded])])
            }
        }
    }

    /// A worker needs no changes, and is woken by those of other nodes as soon as some subscriber has them read.
    @Test func changesOfAnotherNodeAreDeliveredAndWake() async throws {
        let (hub, worker) = (Subscriber(.otherNodes), Subscriber())
        try await with([hub, worker]) { bench, _ in
            let peer = try await bench.peer()
            _ = try await bench.enqueue()
            _ = try await peer.enqueue(NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now))
            for subscriber in [hub, worker] {
                let calls = await subscriber.calls(upTo: .wake(hasCancels: false))
                #expect(calls == [.receive([.enqueued]), .deliver([1]), .wake(hasCancels: false)])
            }
        }
    }

    /// The log may be read after the commit and before the feed is called with it, so either call may be the first.
    @Test func changesOfThisNodeAreReadWhereTheyAreNeeded() async throws {
        let hub = Subscriber(.allNodes)
        try await with([hub]) { bench, _ in
            _ = try await bench.enqueue()
            #expect(await hub.hasCalls([.receive([.enqueued]), .deliver([1])]))
        }
    }

    @Test func requestToStopARunWakes() async throws {
        let worker = Subscriber()
        try await with([worker]) { bench, _ in
            let run = try await bench.start()
            let peer = try await bench.peer()
            _ = try await peer.cancel(run.key.id, note: "enough", by: .anyone)
            #expect(await worker.calls(upTo: .wake(hasCancels: true)).last == .wake(hasCancels: true))
        }
    }

    /// Another node's NOTIFY wakes the worker before the log is read.
    @Test func notificationWakes() async throws {
        let worker = Subscriber()
        try await with([worker]) { _, feed in
            feed.wake()
            #expect(await worker.calls(upTo: .wake(hasCancels: false)) == [.wake(hasCancels: false)])
        }
    }

    @Test func deliveryThatFailsIsRepeated() async throws {
        let hub = Subscriber(.otherNodes, failures: 2)
        try await with([hub]) { bench, _ in
            let peer = try await bench.peer()
            _ = try await peer.enqueue(NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now))
            let calls = await hub.calls(upTo: .wake(hasCancels: false))
            #expect(calls == [.deliver([1]), .deliver([1]), .deliver([1]), .wake(hasCancels: false)])
        }
    }

    /// A feed without a position cannot know what it has missed.
    @Test func aLostPositionIsReported() async throws {
        let hub = Subscriber(.otherNodes)
        try await with(opens: false, [hub]) { _, _ in
            let calls = await hub.calls(upTo: .wake(hasCancels: true))
            #expect(calls == [.missed, .wake(hasCancels: true)])
        }
    }

    @Test func subscribersAreNotKept() async throws {
        try await Bench.with { bench in
            weak var feed: ChangeFeed?
            weak var subscriber: Subscriber?
            do {
                let living = ChangeFeed(store: bench.store, logger: Logger(label: "tests"))
                let subscribed = Subscriber()
                living.subscribe(subscribed)
                _ = try await bench.enqueue()
                feed = living
                subscriber = subscribed
                #expect(feed != nil && subscriber != nil)
            }
            #expect(feed == nil && subscriber == nil)
            _ = try await bench.enqueue()
        }
    }

    /// What a run reports is read and notified once it is saved.
    @Test func onlyWhatMayBeCommittedIsRead() {
        let key = JobKey(number: 1, lane: 1, id: .version7(milliseconds: 1, random: (0, 1)))
        let progress = Progress(
            stage: "", fraction: 0.5, message: "", done: 0, total: 0, updatedAt: Timestamp(microseconds: 1))
        let run = ClaimedRun(
            key: key, spec: JobSpec(kind: "k", userID: "u"), token: 1, attempt: 1, lastAttempt: 1,
            sequence: 2,
            startedAt: .now, lastLogLine: 0)
        #expect(!LocalChange.progress(run, progress).mayBeCommitted)
        #expect(LocalChange.progress(run, progress, isSaved: true).mayBeCommitted)
        #expect(!LocalChange.log(key, [], isSaved: false).mayBeCommitted)
        #expect(LocalChange.log(key, [], isSaved: true).mayBeCommitted)
        #expect(LocalChange.uncertain.mayBeCommitted)
        #expect(LocalChange.cancelRequested(key, run.fence, node: 1, note: "").mayBeCommitted)
    }
}
