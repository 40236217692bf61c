package import JobModel
package import JobStore
package import Logging
package import Support
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
        /// At most 255.
        package var heartbeatSeconds = 15
        /// Lanes whose user and queue are remembered.
        package var lanesMax = 100_000

        package init() {}
    }

    private struct State {
        /// By the numbers that the database has for the jobs, which are how everybody names them.
        var byJob: [Int64: SmallMap<ObjectIdentifier, Subscription>] = [:]
        var said = SaidProgress()
        var scopes: [ObjectIdentifier: Subscription] = [:]
        /// All of them, by the second of the heartbeat.
        var beats: [SlotList<Subscription>]
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
        var lanes: [Int64: (userID: ExactText, queue: String)] = [:]

        /// Those that the log has told of.
        var unknownValues: Set<ExactText> = []

        func hearers(of number: Int64, andScopes: Bool = false) -> Hearers {
            Hearers(named: byJob[number], scopes: andScopes && !scopes.isEmpty ? Array(scopes.values) : [])
        }

        /// The id of a watched job.
        func job(of number: Int64) -> JobID? { byJob[number]?.anyValue?.jobs[number] }
    }

    private static let jobsReadAtOnce = 500
    private static let unknownValuesMax = 100
    /// When a commit whose outcome is unknown is known to be over: after the statement timeout of the sessions.
    private static let commitTimeMax: Duration = .seconds(12)
    /// Their logs may be long.
    private static let logsReadAtOnce = 16

    package let store: JobStore
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
        let seconds = max(1, min(configuration.heartbeatSeconds, Int(UInt8.max)))
        state = Mutex(State(beats: Array(repeating: SlotList(), count: seconds)))
    }

    // MARK: Watches

    /// Watches named jobs, each with its number in the database. Subscribe first and read their state then: nothing is
    /// missed in between.
    package func subscribe(
        to jobs: [JobID: Int64], includesLog: Bool, namesNodes: Bool = true
    ) -> Subscription {
        let named = SmallMap(Dictionary(jobs.map { ($0.value, $0.key) }) { first, _ in first })
        return state.withLock { state in
            let subscription = add(
                &state, scope: .jobs, named, includesLog: includesLog, namesNodes: namesNodes)
            for number in named.keys {
                state.byJob[number, default: .none][ObjectIdentifier(subscription)] = subscription
                // It has heard nothing of what was said.
                state.said.forget(number)
            }
            return subscription
        }
    }

    /// Watches everything of a user, a queue or both, as far as it is of `users`.
    package func subscribe(
        userID: ExactText?, queue: String?, users: UserScope, namesNodes: Bool = true
    ) -> Subscription {
        state.withLock { state in
            let subscription = add(
                &state, scope: .everything(userID: userID, queue: queue, users: users), .none,
                includesLog: false, namesNodes: namesNodes)
            state.scopes[ObjectIdentifier(subscription)] = subscription
            return subscription
        }
    }

    private func add(
        _ state: inout State, scope: Subscription.Scope, _ jobs: SmallMap<Int64, JobID>, includesLog: Bool,
        namesNodes: Bool
    ) -> Subscription {
        // In the second that has just been: its turn is the farthest away.
        let last = (state.nextBeat + state.beats.count - 1) % state.beats.count
        let subscription = state.beats[last].add { slot in
            Subscription(
                feed: self, scope: scope, jobs: jobs, includesLog: includesLog, namesNodes: namesNodes,
                beat: UInt8(last), slot: slot)
        }
        if state.isOver { subscription.end() }
        return subscription
    }

    func remove(_ subscription: Subscription) {
        state.withLock { state in
            for number in subscription.jobs.keys {
                state.byJob[number]?[ObjectIdentifier(subscription)] = nil
                guard state.byJob[number]?.isEmpty == true else { continue }
                state.byJob[number] = nil
                state.said.forget(number)
            }
            state.scopes[ObjectIdentifier(subscription)] = nil
            state.beats[Int(subscription.beat)].remove(subscription.slot)
        }
        subscription.end()
    }

    /// Ends every watch: their clients connect again, elsewhere.
    package func end() {
        let all = state.withLock { state in
            state.isOver = true
            return state.beats.flatMap(\.elements)
        }
        for subscription in all { subscription.end() }
    }

    // MARK: What happens

    package func receive(_ notices: [Notice]) {
        var heard: [(notice: Notice, hearers: Hearers)] = []
        let hasScopes = state.withLock { state in
            for notice in notices {
                if let hearers = self.hearers(of: notice, &state) { heard.append((notice, hearers)) }
            }
            return !state.scopes.isEmpty
        }
        for (notice, hearers) in heard { tell(notice, to: hearers) }
        // What is only said is not in the feed yet.
        guard notices.contains(where: \.mayBeCommitted) else { return }
        notifySignal.wake()
        if hasScopes { readSignal.wake() }
    }

    /// Another node is alive: it hears of our changes.
    package func setPeers(_ hasPeers: Bool) {
        state.withLock { $0.hasPeers = hasPeers }
    }

    /// There may be something to read.
    package func hint() { readSignal.wake() }

    /// Nil: nobody is to hear of it. (A watch that is just beginning reads what is committed.)
    private func hearers(of notice: Notice, _ state: inout State) -> Hearers? {
        var hearers: Hearers
        switch notice {
        case .event(_, let key), .log(let key, _, _):
            hearers = state.hearers(of: key.number)
        case .progress(let key, let attempt, let progress, let isSaved):
            // A scope knows which jobs are its own.
            hearers = state.hearers(of: key.number, andScopes: true)
            if hearers.named != nil {
                if !isSaved {
                    state.said.say(progress.updatedAt, attempt: attempt, of: key.number)
                } else if state.said.save(progress.updatedAt, attempt: attempt, of: key.number) {
                    hearers.named = nil
                }
            }
        case .uncertain:
            // Of what may still be committed, one that is just beginning has to hear too.
            state.mustRecheck = true
            return nil
        case .cancelRequested:
            return nil
        }
        return hearers.isEmpty ? nil : hearers
    }

    private func tell(_ notice: Notice, to hearers: Hearers) {
        switch notice {
        case .event(let event, _):
            hearers.tell(JobNews(event))
        case .progress(let key, let attempt, let progress, let isSaved):
            let isSure = hearers.tell(JobNews(of: key.id, attempt: attempt, progress))
            if isSure, !isSaved, hearers.named != nil {
                state.withLock { $0.said.isWithAll(progress.updatedAt, of: key.number) }
            }
        case .log(let key, let lines, let isSaved):
            hearers.named?.forEach { $0.receive(lines, isSaved: isSaved, of: key.id) }
        case .uncertain, .cancelRequested:
            break
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
                let due = state.beats[state.nextBeat].elements
                state.nextBeat = (state.nextBeat + 1) % state.beats.count
                return due
            }
            for subscription in due { subscription.beatHeart() }
        }
    }

    private func recheck() {
        let all = state.withLock { $0.beats.flatMap(\.elements) }
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
                guard let watchers = state.byJob[change.number], let id = state.job(of: change.number) else {
                    continue
                }
                watchers.forEach { $0.heard(of: id, sequence: change.sequence) }
            }
        }
        let mine = try await wantedByScopes(changes)
        let reports = changes.filter { $0.sequence == 0 }.map(\.number)
        let named = state.withLock { state in reports.filter { state.byJob[$0] != nil } }
        try await deliverReports(Set(named).union(mine.filter { $0.sequence == 0 }.map(\.number)))
        try await deliverToScopes(mine)
    }

    /// Progress, and log lines where they are wanted. Of neither is it known which one it was.
    private func deliverReports(_ numbers: Set<Int64>) async throws(StoreError) {
        guard !numbers.isEmpty else { return }
        for (number, latest) in try await store.progress(of: Array(numbers)) {
            let hearers = state.withLock { $0.hearers(of: number, andScopes: true) }
            hearers.tell(JobNews(of: latest.job, attempt: latest.attempt, latest.progress))
        }
        // From the last line on that all who want the log have.
        let logged = state.withLock { state in
            numbers.compactMap { number -> (number: Int64, job: JobID, after: Int64)? in
                guard let watchers = state.byJob[number], let job = state.job(of: number) else { return nil }
                var last: Int64?
                watchers.forEach { watcher in
                    guard let line = watcher.lastLogLine(of: job) else { return }
                    last = min(last ?? line, line)
                }
                return last.map { (number: number, job: job, after: $0) }
            }
        }
        for start in stride(from: 0, to: logged.count, by: Self.logsReadAtOnce) {
            let chunk = logged[start..<min(start + Self.logsReadAtOnce, logged.count)]
            let read = try await store.knownLogs(of: chunk.map { (number: $0.number, after: $0.after) })
            for level in read.unknown { warn(of: level, "lines of the log are not told to watches") }
            for (number, job, _) in chunk {
                guard let lines = read.logs[number] else { continue }
                state.withLock { $0.byJob[number] }?.forEach { $0.receive(lines, isSaved: true, of: job) }
            }
        }
    }

    /// The changes in lanes that some watch of a user or a queue holds.
    private func wantedByScopes(_ changes: [RemoteChange]) async throws(StoreError) -> [RemoteChange] {
        let scopes = state.withLock { $0.scopes.values.map(\.scope) }
        guard !scopes.isEmpty else { return [] }
        let ids = Set(changes.map(\.lane))
        // What is remembered may be forgotten any time, but not while this batch needs it.
        var lanes: [Int64: (userID: ExactText, queue: String)] = state.withLock { state in
            var known: [Int64: (userID: ExactText, queue: String)] = [:]
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
            let read = try await store.knownEvents(after: wanted)
            for event in read.unknown {
                leaveAlone(event, upTo: told[event.number]?.upperBound ?? 1)
            }
            let events = read.events.flatMap { number, events in
                events.filter { told[number]?.contains($0.sequence) == true }
            }
            for event in events {
                let scopes = state.withLock { state in
                    state.scopes.values.filter { $0.scope.holds(userID: event.userID, queue: event.queue) }
                }
                let news = JobNews(event)
                for scope in scopes { scope.receive(news) }
            }
        }
    }

    /// A job with an event that only a newer version knows. The watches that it belongs to promise each event, so they
    /// read it for themselves, and end with the error; the feed goes on for all others.
    private func leaveAlone(_ event: UnknownEvent, upTo sequence: Int64) {
        warn(of: event.value, "watches of users and queues that should tell of it end")
        let scopes = state.withLock { state in
            state.scopes.values.filter { $0.scope.holds(userID: event.userID, queue: event.queue) }
        }
        for scope in scopes { scope.heard(of: event.job, sequence: sequence) }
    }

    /// Once for each value, of a bounded number: there may be very many rows with it.
    private func warn(of value: ExactText, _ consequence: String) {
        let isNew = state.withLock { state in
            guard state.unknownValues.count < Self.unknownValuesMax else { return false }
            return state.unknownValues.insert(value).inserted
        }
        guard isNew else { return }
        logger.warning(
            "a value of a newer version was found in the feed of changes: \(consequence)",
            metadata: ["value": "\(value)"])
    }
}

extension Notice {
    /// Whether the database may have it by now: whoever reads finds it, or some other part of it.
    var mayBeCommitted: Bool {
        switch self {
        case .event, .cancelRequested, .uncertain: true
        case .progress(_, _, _, let isSaved), .log(_, _, let isSaved): isSaved
        }
    }
}
