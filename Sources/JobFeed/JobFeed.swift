package import JobCore
package import JobStore
package import Logging
import Synchronization

/// Carries what happens to jobs to those who watch: what this node commits at once, what other nodes commit
/// through the feed of changes in the database.
///
/// NOTIFY only hurries the reading of the feed; the poll alone suffices. What the feed tells of another
/// node's job is only that something happened: the events themselves are read from the database, so a
/// watch is exact whatever is late or lost here.
package final class JobFeed: Sendable {
    package struct Configuration: Sendable {
        package var pollInterval: Duration = .seconds(1)
        /// At most one NOTIFY in this time.
        package var notifyInterval: Duration = .milliseconds(100)
        package var heartbeatSeconds = 15

        package init() {}
    }

    private struct State {
        var byJob: [JobID: [ObjectIdentifier: Subscription]] = [:]
        var numbers: [Int64: JobID] = [:]
        var scopes: [ObjectIdentifier: Subscription] = [:]
        /// All of them, by the second of the heartbeat.
        var beats: [[ObjectIdentifier: Subscription]]
        var nextBeat = 0
        /// Until the first renewal tells, there may be some.
        var hasPeers = true
        var isOver = false
    }

    private let store: JobStore
    private let configuration: Configuration
    private let logger: Logger
    private let state: Mutex<State>
    private let readSignal = WakeSignal()
    private let notifySignal = WakeSignal()
    private let onRemoteChange: @Sendable (_ hasCancels: Bool) -> Void

    /// `onRemoteChange` is called when another node has changed something.
    package init(
        store: JobStore, configuration: Configuration = Configuration(), logger: Logger,
        onRemoteChange: @escaping @Sendable (_ hasCancels: Bool) -> Void
    ) {
        self.store = store
        self.configuration = configuration
        self.logger = logger
        self.onRemoteChange = onRemoteChange
        state = Mutex(State(beats: Array(repeating: [:], count: configuration.heartbeatSeconds)))
    }

    // MARK: Watches

    /// Watches named jobs. Subscribe first and read their state then: nothing is missed in between.
    package func subscribe(to jobs: [JobID], includesLog: Bool) -> Subscription {
        let subscription = Subscription(scope: .jobs, includesLog: includesLog)
        state.withLock { state in
            for job in jobs { state.byJob[job, default: [:]][ObjectIdentifier(subscription)] = subscription }
            add(subscription, &state)
        }
        return subscription
    }

    /// Watches everything of a user, a queue or both.
    package func subscribe(userID: String?, queue: String?) -> Subscription {
        let subscription = Subscription(
            scope: .everything(userID: userID, queue: queue), includesLog: false)
        state.withLock { state in
            state.scopes[ObjectIdentifier(subscription)] = subscription
            add(subscription, &state)
        }
        return subscription
    }

    /// Says how the database names a watched job, which is how other nodes' changes name it.
    package func attach(_ numbers: [Int64: JobID]) {
        state.withLock { $0.numbers.merge(numbers) { _, new in new } }
    }

    package func unsubscribe(_ subscription: Subscription, jobs: [JobID: Int64]) {
        state.withLock { state in
            let id = ObjectIdentifier(subscription)
            for (job, number) in jobs {
                state.byJob[job]?[id] = nil
                if state.byJob[job]?.isEmpty == true {
                    state.byJob[job] = nil
                    state.numbers[number] = nil
                }
            }
            state.scopes[id] = nil
            for index in state.beats.indices { state.beats[index][id] = nil }
        }
        subscription.end()
    }

    private func add(_ subscription: Subscription, _ state: inout State) {
        state.beats[state.nextBeat][ObjectIdentifier(subscription)] = subscription
        if state.isOver { subscription.end() }
    }

    /// Ends every watch: their clients connect again, elsewhere.
    package func end() {
        let all = state.withLock { state in
            state.isOver = true
            return state.beats.flatMap(\.values)
        }
        for subscription in all { subscription.end() }
    }

    // MARK: What happens

    package func receive(_ notices: [Notice]) {
        for notice in notices { publish(notice) }
        notifySignal.wake()
    }

    /// Another node is alive: it hears of our changes.
    package func setPeers(_ hasPeers: Bool) {
        state.withLock { $0.hasPeers = hasPeers }
    }

    /// There may be something to read.
    package func hint() { readSignal.wake() }

    private func publish(_ notice: Notice) {
        switch notice {
        case .event(let event, let key):
            for subscription in subscriptions(of: key.id, scopes: { $0.holds(event) }) {
                subscription.receive(event)
            }
        case .progress(let key, let attempt, let progress):
            // A scope knows which jobs are its own.
            for subscription in subscriptions(of: key.id, scopes: { _ in true }) {
                subscription.receive(progress, attempt: attempt, of: key.id)
            }
        case .log(let key, let lines):
            for subscription in subscriptions(of: key.id) { subscription.receive(lines, of: key.id) }
        case .cancelRequested:
            break
        }
    }

    private func subscriptions(
        of job: JobID, scopes isWanted: (Subscription.Scope) -> Bool = { _ in false }
    ) -> [Subscription] {
        state.withLock { state in
            (state.byJob[job].map { Array($0.values) } ?? [])
                + state.scopes.values.filter { isWanted($0.scope) }
        }
    }

    // MARK: Loops

    /// Reads the feed, notifies the other nodes, and beats, until the task is cancelled.
    package func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.readLoop() }
            group.addTask { await self.notifyLoop() }
            group.addTask { await self.beatLoop() }
        }
    }

    private func readLoop() async {
        var cursor: ChangeCursor?
        var lastRead = ContinuousClock.now
        while !Task.isCancelled {
            do throws(StoreError) {
                // After a pause the feed may have been trimmed.
                if lastRead.duration(to: .now) > JobStore.changesKept / 2 { cursor = nil }
                if let place = cursor {
                    let batch = try await store.changes(since: place, all: isWatched)
                    cursor = batch.cursor
                    lastRead = .now
                    if batch.hasCancels || !batch.isEmpty { onRemoteChange(batch.hasCancels) }
                    try await deliver(batch.changes)
                    if batch.hasMore { continue }
                } else {
                    cursor = try await store.openChanges()
                    lastRead = .now
                    recheck()
                    onRemoteChange(true)
                }
            } catch {
                logger.warning("the feed of changes could not be read", metadata: ["error": "\(error)"])
            }
            await readSignal.wait(atMost: configuration.pollInterval)
        }
    }

    private func notifyLoop() async {
        while !Task.isCancelled {
            await notifySignal.wait(atMost: .seconds(60))
            guard !Task.isCancelled, state.withLock(\.hasPeers) else { continue }
            do throws(StoreError) {
                try await store.notifyPeers()
            } catch {
                logger.debug("the other nodes were not notified", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: configuration.notifyInterval)
        }
    }

    private func beatLoop() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(1))
            let due = state.withLock { state in
                let due = Array(state.beats[state.nextBeat].values)
                state.nextBeat = (state.nextBeat + 1) % state.beats.count
                return due
            }
            for subscription in due { subscription.beat() }
        }
    }

    private var isWatched: Bool {
        state.withLock { !$0.byJob.isEmpty || !$0.scopes.isEmpty }
    }

    private func recheck() {
        let all = state.withLock { $0.byJob.values.flatMap(\.values) }
        for subscription in all { subscription.recheck() }
    }

    /// Tells the watches of other nodes' changes.
    private func deliver(_ changes: [RemoteChange]) async throws(StoreError) {
        guard !changes.isEmpty else { return }
        let (watched, hasScopes) = state.withLock { state in
            let watched = changes.compactMap { change in
                state.numbers[change.number].flatMap { id in
                    state.byJob[id].map { (change, id, Array($0.values)) }
                }
            }
            return (watched, !state.scopes.isEmpty)
        }
        for (change, id, subscriptions) in watched where change.sequence > 0 {
            for subscription in subscriptions { subscription.heard(of: id, sequence: change.sequence) }
        }
        let reports = changes.filter { $0.sequence == 0 }.map(\.number)
        if !reports.isEmpty, hasScopes || !watched.isEmpty { try await deliverReports(Set(reports)) }
        if hasScopes { try await deliverToScopes(changes) }
    }

    /// Progress, and log lines where they are wanted. Of neither is it known which one it was.
    private func deliverReports(_ numbers: Set<Int64>) async throws(StoreError) {
        for (number, latest) in try await store.progress(of: Array(numbers)) {
            let key = JobKey(number: number, lane: 0, id: latest.job)
            publish(.progress(key, attempt: latest.attempt, latest.progress))
        }
        let logged = state.withLock { state in
            numbers.compactMap { number in
                state.numbers[number].flatMap { id in
                    state.byJob[id]?.values.contains(where: \.includesLog) == true ? (number, id) : nil
                }
            }
        }
        for (number, id) in logged {
            let lines = try await store.log(of: number, after: 0)
            publish(.log(JobKey(number: number, lane: 0, id: id), lines))
        }
    }

    private func deliverToScopes(_ changes: [RemoteChange]) async throws(StoreError) {
        var first: [Int64: Int64] = [:]
        for change in changes where change.sequence > 0 {
            first[change.number] = min(first[change.number] ?? .max, change.sequence - 1)
        }
        for events in try await store.events(after: first).values {
            for event in events {
                let scopes = state.withLock { state in
                    state.scopes.values.filter { $0.scope.holds(event) }
                }
                for scope in scopes { scope.receive(event) }
            }
        }
    }
}
