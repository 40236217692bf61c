package import JobModel
package import Logging
import Support
import Synchronization

/// Passes on changes of jobs: what this node commits, at once, and what other nodes commit, by reading the change
/// log.
///
/// It knows its subscribers only as `ChangeSubscriber`, and holds them weakly. So the store, the feed and its
/// subscribers can be released in any order.
///
/// A NOTIFY from another node makes the next read come sooner. Polling alone is enough, so a lost NOTIFY costs
/// time only.
package final class ChangeFeed: Sendable {
    package struct Configuration: Sendable {
        /// The longest time between two reads of the log.
        package var pollInterval: Duration = .seconds(1)
        /// The time in which at most one NOTIFY is sent.
        package var notifyInterval: Duration = .milliseconds(100)
        /// The shortest time between two reads: under load, one read gets the changes of many commits.
        package var readInterval: Duration = .milliseconds(10)

        package init() {}
    }

    private struct Subscriber {
        weak var value: (any ChangeSubscriber)?
    }

    private struct State {
        /// The subscribers in the order in which they have subscribed.
        var subscribers: [Subscriber] = []
        /// Whether other nodes may be alive. It is true until the first renewal of the lease says otherwise.
        var hasPeers = true
        /// The position at which the first read begins; written by `open`.
        var opened: ChangeCursor?
    }

    private let store: JobStore
    private let configuration: Configuration
    private let logger: Logger
    private let state = Mutex(State())
    private let readSignal = AutoResetEvent()
    private let notifySignal = AutoResetEvent()

    /// Makes the feed the observer of the store's commits.
    package init(store: JobStore, configuration: Configuration = Configuration(), logger: Logger) {
        self.store = store
        self.configuration = configuration
        self.logger = logger
        store.observe { [weak self] in self?.publish($0) }
    }

    // MARK: Subscribers

    /// Adds a subscriber, which is held weakly. Subscribers are called in the order in which they have subscribed.
    package func subscribe(_ subscriber: any ChangeSubscriber) {
        state.withLock { $0.subscribers.append(Subscriber(value: subscriber)) }
    }

    private var subscribers: [any ChangeSubscriber] {
        state.withLock { state in state.subscribers.compactMap(\.value) }
    }

    private var interest: ChangeInterest {
        subscribers.lazy.map(\.interest).max() ?? .cancels
    }

    // MARK: Changes

    /// Passes on the commits of this node, or reports of its runs.
    package func publish(_ changes: [LocalChange]) {
        let subscribers = subscribers
        for subscriber in subscribers { subscriber.receive(changes) }
        // A run's report is not in the log before it is saved, so there is nothing to read yet.
        guard changes.contains(where: \.mayBeCommitted) else { return }
        notifySignal.wake()
        if subscribers.contains(where: { $0.interest == .allNodes }) { readSignal.wake() }
    }

    /// Sets whether other nodes are alive, which have to be notified of this node's changes.
    package func setPeers(_ hasPeers: Bool) {
        state.withLock { $0.hasPeers = hasPeers }
    }

    /// Handles a NOTIFY of another node, or the possibility that one was missed before this node listened.
    package func wake() {
        setPeers(true)
        readSignal.wake()
        wakeSubscribers(hasCancels: false)
    }

    private func wakeSubscribers(hasCancels: Bool) {
        for subscriber in subscribers { subscriber.wake(hasCancels: hasCancels) }
    }

    // MARK: Loops

    /// Finds the position in the log from which on no change is missed. It must be called before any watch
    /// begins.
    package func open() async throws(StoreError) {
        let cursor = try await store.openChanges()
        state.withLock { $0.opened = cursor }
        reportDelivery(upTo: cursor)
    }

    /// Reads the log and notifies the other nodes, until the task is cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.readLoop() }
            group.addTask { await self.notifyLoop() }
        }
    }

    private func readLoop() async {
        var cursor = state.withLock(\.opened)
        var backoff = Backoff(initial: .milliseconds(200), most: .seconds(1))
        while !Task.isCancelled {
            let readAt = ContinuousClock.now
            do throws(StoreError) {
                // Entries may have been trimmed before they were read, after a pause or during a read of very
                // many pages.
                if let position = cursor, position.takenAt.duration(to: readAt) > JobStore.changesKept / 2 {
                    cursor = nil
                }
                if let position = cursor {
                    guard let batch = try await read(from: position) else { continue }
                    guard !batch.hasLostHistory else {
                        logger.error(
                            "the database has lost changes that this node has read: watches end, and their clients begin again"
                        )
                        for subscriber in subscribers { subscriber.historyWasLost() }
                        cursor = nil
                        continue
                    }
                    cursor = batch.cursor
                    if batch.hasMore { continue }
                } else {
                    cursor = try await store.openChanges()
                    for subscriber in subscribers { subscriber.changesWereMissed() }
                    wakeSubscribers(hasCancels: true)
                    if let cursor { reportDelivery(upTo: cursor) }
                }
            } catch {
                logger.warning("could not read the change log", metadata: ["error": "\(error)"])
                // With jitter, so that the nodes do not all read at once after an outage.
                try? await Task.sleep(for: backoff.next())
                continue
            }
            backoff.reset()
            await readSignal.wait(atMost: configuration.pollInterval, on: .system)
            try? await Task.sleep(until: readAt + configuration.readInterval, clock: .continuous)
        }
    }

    /// Does one read and delivers its changes. Nil if it has left out changes that a subscriber has come to need
    /// in the meantime, so that it has to be repeated.
    private func read(from cursor: ChangeCursor) async throws(StoreError) -> ChangeBatch? {
        let interest = interest
        let batch = try await store.changes(since: cursor, interest)
        guard self.interest == interest else { return nil }
        if batch.hasLostHistory { return batch }
        for subscriber in subscribers { try await subscriber.deliver(batch.changes) }
        reportDelivery(upTo: batch.cursor)
        if batch.hasRemote {
            setPeers(true)
            wakeSubscribers(hasCancels: batch.hasCancels)
        }
        return batch
    }

    private func reportDelivery(upTo cursor: ChangeCursor) {
        guard let place = cursor.place else { return }
        for subscriber in subscribers { subscriber.delivered(upTo: place) }
    }

    private func notifyLoop() async {
        while !Task.isCancelled {
            await notifySignal.wait(atMost: .seconds(60), on: .system)
            guard !Task.isCancelled, state.withLock(\.hasPeers) else { continue }
            do throws(StoreError) {
                try await store.notifyPeers()
            } catch {
                logger.debug("could not notify the other nodes", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: configuration.notifyInterval)
        }
    }
}

extension LocalChange {
    /// Whether the change may be committed by now, so that a read of the log can find it.
    var mayBeCommitted: Bool {
        switch self {
        case .event, .cancelRequested, .uncertain: true
        case .progress(_, _, let isSaved), .log(_, _, let isSaved): isSaved
        }
    }
}
