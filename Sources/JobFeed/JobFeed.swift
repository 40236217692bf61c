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
        /// Between two readings of the feed: under load one reading has what many commits told.
        package var readInterval: Duration = .milliseconds(10)
        package var heartbeatSeconds = 15
        /// Lanes whose user and queue are remembered.
        package var lanesMax = 100_000

        package init() {}
    }

    private struct State {
        /// Arrays, which are smaller: most jobs are watched once.
        var byJob: [JobID: [Subscription]] = [:]
        var numbers: [Int64: JobID] = [:]
        var scopes: [ObjectIdentifier: Subscription] = [:]
        /// All of them, by the second of the heartbeat.
        var beats: [[ObjectIdentifier: Subscription]]
        var nextBeat = 0
        /// Until the first renewal tells, there may be some.
        var hasPeers = true
        var isOver = false
        var opened: ChangeCursor?
        /// A commit of ours may have taken place without our knowing,
        var mustRecheck = false
        /// or may still take place: the database may go on with it for as long as a statement may take.
        var recheckAgainAt: ContinuousClock.Instant?
        /// Whose each lane is that a watch of a user or a queue was asked about.
        var lanes: [Int64: (userID: String, queue: String)] = [:]
    }

    private static let jobsReadAtOnce = 500
    /// When a commit whose outcome is unknown is known to be over: after the statement timeout of the sessions.
    private static let commitTimeMax: Duration = .seconds(12)
    /// Their logs may be long.
    private static let logsReadAtOnce = 16

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
            for job in jobs { state.byJob[job, default: []].append(subscription) }
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

    package func unsubscribe(_ subscription: Subscription, jobs: some Sequence<(key: JobID, value: Int64)>) {
        state.withLock { state in
            let id = ObjectIdentifier(subscription)
            for (job, number) in jobs {
                state.byJob[job]?.removeAll { $0 === subscription }
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
        // In the second that has just been: its turn is the farthest away.
        let last = (state.nextBeat + state.beats.count - 1) % state.beats.count
        state.beats[last][ObjectIdentifier(subscription)] = subscription
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
        let isWatched = state.withLock { !$0.byJob.isEmpty || !$0.scopes.isEmpty }
        for notice in notices {
            // A watch that is just beginning reads what is committed; of what may still be, it has to hear.
            if !isWatched, !notice.isUncertain { continue }
            publish(notice)
        }
        // What is only said is not in the feed yet.
        guard notices.contains(where: \.mayBeCommitted) else { return }
        notifySignal.wake()
        if state.withLock({ !$0.scopes.isEmpty }) { readSignal.wake() }
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
            for subscription in subscriptions(of: key.id) { subscription.receive(event) }
        case .progress(let key, let attempt, let progress, _):
            // A scope knows which jobs are its own.
            for subscription in subscriptions(of: key.id, andScopes: true) {
                subscription.receive(progress, attempt: attempt, of: key.id)
            }
        case .log(let key, let lines, let isSaved):
            for subscription in subscriptions(of: key.id) {
                subscription.receive(lines, isSaved: isSaved, of: key.id)
            }
        case .uncertain:
            state.withLock { $0.mustRecheck = true }
        case .cancelRequested:
            break
        }
    }

    private func subscriptions(of job: JobID, andScopes: Bool = false) -> [Subscription] {
        state.withLock { state in
            let named = state.byJob[job] ?? []
            return andScopes && !state.scopes.isEmpty ? named + state.scopes.values : named
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

    /// Finds the place in the feed from which on nothing is missed. Call it before anybody watches.
    package func open() async throws(StoreError) {
        let cursor = try await store.openChanges()
        state.withLock { $0.opened = cursor }
    }

    private func readLoop() async {
        var cursor = state.withLock(\.opened)
        while !Task.isCancelled {
            let readAt = ContinuousClock.now
            do throws(StoreError) {
                // After a pause, or within a reading of very many pages, the feed may have been trimmed.
                if let place = cursor, place.takenAt.duration(to: readAt) > JobStore.changesKept / 2 {
                    cursor = nil
                }
                if let place = cursor {
                    let interest = interest
                    let batch = try await store.changes(since: place, interest)
                    // A watch that began meanwhile wants what this reading left out.
                    if self.interest != interest { continue }
                    try await deliver(batch.changes)
                    cursor = batch.cursor
                    if batch.hasRemote {
                        setPeers(true)
                        onRemoteChange(batch.hasCancels)
                    }
                    if mustRecheck() { recheck() }
                    if batch.hasMore { continue }
                } else {
                    cursor = try await store.openChanges()
                    recheck()
                    // What happened to the jobs of a user or a queue in between, nobody knows.
                    endScopes()
                    onRemoteChange(true)
                }
            } catch {
                logger.warning("the feed of changes could not be read", metadata: ["error": "\(error)"])
            }
            await readSignal.wait(atMost: configuration.pollInterval)
            try? await Task.sleep(until: readAt + configuration.readInterval, clock: .continuous)
        }
    }

    private func mustRecheck() -> Bool {
        state.withLock { state in
            let now = ContinuousClock.now
            if state.mustRecheck.take() {
                state.recheckAgainAt = now + Self.commitTimeMax
                return true
            }
            guard let again = state.recheckAgainAt, again <= now else { return false }
            state.recheckAgainAt = nil
            return true
        }
    }

    /// Named jobs hear of this node's own commits at once. Watches of a user or a queue hear of everything
    /// through the feed, in whose order nothing is missed.
    private var interest: ChangeInterest {
        state.withLock { state in
            state.scopes.isEmpty ? (state.byJob.isEmpty ? .cancels : .otherNodes) : .allNodes
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

    private func recheck() {
        let all = state.withLock { $0.byJob.values.flatMap { $0 } }
        for subscription in all { subscription.recheck() }
    }

    private func endScopes() {
        let scopes = state.withLock { Array($0.scopes.values) }
        for scope in scopes { scope.end() }
    }

    /// Tells the watches of what the feed says.
    private func deliver(_ changes: [RemoteChange]) async throws(StoreError) {
        guard !changes.isEmpty else { return }
        state.withLock { state in
            for change in changes where change.sequence > 0 {
                guard let id = state.numbers[change.number], let watches = state.byJob[id] else { continue }
                for subscription in watches {
                    subscription.heard(of: id, sequence: change.sequence)
                }
            }
        }
        let mine = try await wantedByScopes(changes)
        let reports = changes.filter { $0.sequence == 0 }.map(\.number)
        let named = state.withLock { state in reports.filter { state.numbers[$0] != nil } }
        try await deliverReports(Set(named).union(mine.filter { $0.sequence == 0 }.map(\.number)))
        try await deliverToScopes(mine)
    }

    /// Progress, and log lines where they are wanted. Of neither is it known which one it was.
    private func deliverReports(_ numbers: Set<Int64>) async throws(StoreError) {
        guard !numbers.isEmpty else { return }
        for (number, latest) in try await store.progress(of: Array(numbers)) {
            let key = JobKey(number: number, lane: 0, id: latest.job)
            publish(.progress(key, attempt: latest.attempt, latest.progress, isSaved: true))
        }
        // From the last line on that all who want the log have.
        let logged = state.withLock { state in
            numbers.compactMap { number -> (key: JobKey, after: Int64)? in
                guard let id = state.numbers[number] else { return nil }
                let last = state.byJob[id]?.compactMap { $0.lastLogLine(of: id) }.min()
                return last.map { (key: JobKey(number: number, lane: 0, id: id), after: $0) }
            }
        }
        for start in stride(from: 0, to: logged.count, by: Self.logsReadAtOnce) {
            let chunk = logged[start..<min(start + Self.logsReadAtOnce, logged.count)]
            let logs = try await store.logs(of: chunk.map { (number: $0.key.number, after: $0.after) })
            for (key, _) in chunk {
                if let lines = logs[key.number] { publish(.log(key, lines, isSaved: true)) }
            }
        }
    }

    /// The changes in lanes that some watch of a user or a queue holds.
    private func wantedByScopes(_ changes: [RemoteChange]) async throws(StoreError) -> [RemoteChange] {
        let scopes = state.withLock { $0.scopes.values.map(\.scope) }
        guard !scopes.isEmpty else { return [] }
        let ids = Set(changes.map(\.lane))
        // What is remembered may be forgotten any time, but not while this batch needs it.
        var lanes: [Int64: (userID: String, queue: String)] = state.withLock { state in
            var known: [Int64: (userID: String, queue: String)] = [:]
            for id in ids { known[id] = state.lanes[id] }
            return known
        }
        let unknown = ids.filter { lanes[$0] == nil }
        if !unknown.isEmpty {
            let found = try await store.lanes(Array(unknown))
            state.withLock { state in
                if state.lanes.count + found.count > configuration.lanesMax { state.lanes = [:] }
                state.lanes.merge(found) { _, new in new }
            }
            lanes.merge(found) { _, new in new }
        }
        return changes.filter { change in
            guard let lane = lanes[change.lane] else { return false }
            return scopes.contains { $0.holds(userID: lane.userID, queue: lane.queue) }
        }
    }

    /// The events that these changes tell of. Whatever else the database has by now has changes of its own, which
    /// come later: each event is told once, also to a watch that does not know its job's place.
    private func deliverToScopes(_ changes: [RemoteChange]) async throws(StoreError) {
        var told: [Int64: ClosedRange<Int64>] = [:]
        for change in changes where change.sequence > 0 {
            let before = told[change.number] ?? change.sequence...change.sequence
            told[change.number] =
                min(before.lowerBound, change.sequence)...max(before.upperBound, change.sequence)
        }
        let numbers = Array(told.keys)
        for start in stride(from: 0, to: numbers.count, by: Self.jobsReadAtOnce) {
            let chunk = numbers[start..<min(start + Self.jobsReadAtOnce, numbers.count)]
            let wanted = Dictionary(
                uniqueKeysWithValues: chunk.map { ($0, (told[$0]?.lowerBound ?? 1) - 1) })
            let events = try await store.events(after: wanted).flatMap { number, events in
                events.filter { told[number]?.contains($0.sequence) == true }
            }
            for event in events {
                let scopes = state.withLock { state in
                    state.scopes.values.filter { $0.scope.holds(userID: event.userID, queue: event.queue) }
                }
                for scope in scopes { scope.receive(event) }
            }
        }
    }
}

extension Notice {
    var isUncertain: Bool {
        if case .uncertain = self { true } else { false }
    }

    /// Whether the database may have it by now: whoever reads finds it, or some other part of it.
    var mayBeCommitted: Bool {
        switch self {
        case .event, .cancelRequested, .uncertain: true
        case .progress(_, _, _, let isSaved), .log(_, _, let isSaved): isSaved
        }
    }
}

extension Bool {
    /// Whether it was set; it is not any more.
    fileprivate mutating func take() -> Bool {
        defer { self = false }
        return self
    }
}
