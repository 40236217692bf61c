package import JobModel
package import JobStore
package import Logging
package import Support
import Synchronization

/// Carries what happens to jobs to their watches.
///
/// It subscribes to a `ChangeFeed`, which calls it with what this node commits and with what it reads from the change log.
/// The log only says that something has happened to a job; the events themselves are read from the database, so a watch
/// is exact whatever comes late or is lost on the way.
package final class WatchHub: Sendable {
    package struct Configuration: Sendable {
        /// The time between two heartbeats of a watch, 1 to 255.
        package var heartbeatSeconds = 15
        /// Lanes whose user and queue are cached.
        package var lanesMax = 100_000

        package init() {}
    }

    struct State {
        /// Called when a watch is closed. Here, so that watches without it take no memory for it.
        var onClose: [ObjectIdentifier: @Sendable () -> Void] = [:]
        /// Watches of named jobs, by the numbers that the jobs have in the database.
        var byJob: [Int64: WatchSet] = [:]
        /// Watches of users and queues.
        var byLane = WatchTable()
        var unsaved = UnsavedProgress()
        /// All watches, by the second in which their heartbeat is due.
        var beats: [SlotList<Subscription>]
        var nextBeat = 0
        var isOver = false
        /// A commit of this node may have taken place without a notice of its events.
        var mustRecheck = false
        /// Such a commit may still take place until then: the database may go on with it for as long as a statement may
        /// take.
        var recheckAgainAt: ContinuousClock.Instant?
        /// All watches of users and queues have received what has happened before.
        var place: ChangePlace?
        /// A cache of the users and queues of lanes.
        var lanes: [Int64: LaneName] = [:]
        /// Values of a newer version that have been logged.
        var unknownValues: Set<ExactText> = []

        func recipients(of number: Int64) -> Recipients {
            Recipients(number: number, named: byJob[number] ?? .empty, others: [])
        }

        /// The watches of a job, and those of users and queues that may include it.
        func recipients(of number: Int64, in lane: LaneName) -> Recipients {
            var recipients = recipients(of: number)
            guard !byLane.isEmpty else { return recipients }
            recipients.others = byLane.watches(of: lane)
            return recipients
        }

    }

    /// The database has finished a commit of unknown outcome after this time, which is longer than the statement timeout
    /// of its sessions.
    private static let commitTimeMax: Duration = .seconds(12)

    package let store: JobStore
    package let tokens: ResumeTokens
    /// The time between two heartbeats of a watch.
    package let heartbeatInterval: Duration
    let configuration: Configuration
    let logger: Logger
    let state: Mutex<State>

    package init(
        store: JobStore, tokens: ResumeTokens, configuration: Configuration = Configuration(), logger: Logger
    ) {
        self.store = store
        self.tokens = tokens
        self.configuration = configuration
        self.logger = logger
        let seconds = max(1, min(configuration.heartbeatSeconds, Int(UInt8.max)))
        heartbeatInterval = .seconds(seconds)
        state = Mutex(State(beats: Array(repeating: SlotList(), count: seconds)))
    }

    /// The place in the change log up to which all watches of users and queues have received the changes. Nil: the change
    /// feed has not begun.
    package var place: ChangePlace? { state.withLock(\.place) }

    // MARK: Watches

    /// Watches named jobs, each with its number in the database. Subscribe first and read the state of the jobs then, so
    /// that nothing is missed in between. `onClose` is called once, when the watch is closed.
    package func subscribe(
        to jobs: [JobID: Int64], includesLog: Bool, namesNodes: Bool = true,
        onClose: (@Sendable () -> Void)? = nil
    ) -> Subscription {
        let named = SmallMap(Dictionary(jobs.map { ($0.value, $0.key) }) { first, _ in first })
        return state.withLock { state in
            let subscription = add(
                &state, target: .jobs, named, includesLog: includesLog, namesNodes: namesNodes, onClose)
            guard !state.isOver else { return subscription }
            for number in named.keys {
                state.byJob[number, default: .empty].insert(subscription)
                // This watch has not received what was published before.
                state.unsaved.forget(number)
            }
            return subscription
        }
    }

    /// Watches all jobs of a user, of a queue or of both, as far as they are of `users`. `onClose` is called once, when
    /// the watch is closed.
    package func subscribe(
        userID: ExactText?, queue: String?, users: UserScope, namesNodes: Bool = true,
        onClose: (@Sendable () -> Void)? = nil
    ) -> Subscription {
        state.withLock { state in
            let subscription = add(
                &state, target: .all(userID: userID, queue: queue, users: users), .empty,
                includesLog: false, namesNodes: namesNodes, onClose)
            if !state.isOver { state.byLane.add(subscription) }
            return subscription
        }
    }

    private func add(
        _ state: inout State, target: WatchTarget, _ jobs: SmallMap<Int64, JobID>, includesLog: Bool,
        namesNodes: Bool, _ onClose: (@Sendable () -> Void)?
    ) -> Subscription {
        // The second that has just been is the one that is due last.
        let last = (state.nextBeat + state.beats.count - 1) % state.beats.count
        func subscription(slot: Int32) -> Subscription {
            Subscription(
                hub: self, target: target, jobs: jobs, includesLog: includesLog, namesNodes: namesNodes,
                beat: UInt8(last), slot: slot)
        }
        guard !state.isOver else {
            let ended = subscription(slot: 0)
            state.onClose[ObjectIdentifier(ended)] = onClose
            ended.end()
            return ended
        }
        let added = state.beats[last].add(subscription)
        if let onClose { state.onClose[ObjectIdentifier(added)] = onClose }
        return added
    }

    func remove(_ subscription: Subscription) {
        let onClose = state.withLock { state in
            let onClose =
                state.onClose.isEmpty
                ? nil : state.onClose.removeValue(forKey: ObjectIdentifier(subscription))
            guard !state.isOver else { return onClose }
            for number in subscription.jobs.keys {
                state.byJob[number]?.remove(subscription)
                guard state.byJob[number]?.isEmpty == true else { continue }
                state.byJob[number] = nil
                state.unsaved.forget(number)
            }
            state.byLane.remove(subscription)
            state.beats[Int(subscription.beat)].remove(subscription.slot)
            return onClose
        }
        subscription.end()
        onClose?()
    }

    /// Ends every watch. Their clients connect again and find out what is true now.
    func endAll() {
        let all = state.withLock { state in
            state.lanes = [:]
            return state.beats.flatMap(\.elements)
        }
        for subscription in all { subscription.end() }
    }

    /// Ends every watch, and those that begin later at once. Their clients connect again, to another node.
    package func end() {
        let all = state.withLock { state in
            let all = state.beats.flatMap(\.elements)
            state = State(
                onClose: state.onClose, beats: Array(repeating: SlotList(), count: state.beats.count),
                isOver: true)
            return all
        }
        for subscription in all { subscription.end() }
    }

    // MARK: Heartbeats

    /// Makes heartbeats due, until the task is cancelled.
    package func run() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(1))
            let due = state.withLock { state in
                let due = state.beats[state.nextBeat].elements
                state.nextBeat = (state.nextBeat + 1) % state.beats.count
                return due
            }
            for subscription in due { subscription.sendHeartbeat() }
        }
    }

    // MARK: Commits whose outcome is unknown

    /// Makes all watches of named jobs look at their jobs again, if a commit of unknown outcome makes that necessary.
    func recheckIfNeeded() {
        let isNeeded = state.withLock { state in
            let now = ContinuousClock.now
            if state.mustRecheck.take() {
                state.recheckAgainAt = now + Self.commitTimeMax
                return true
            }
            guard let again = state.recheckAgainAt, again <= now else { return false }
            state.recheckAgainAt = nil
            return true
        }
        if isNeeded { recheck() }
    }

    func recheck() {
        let all = state.withLock { $0.beats.flatMap(\.elements) }
        for subscription in all { subscription.recheck() }
    }
}
