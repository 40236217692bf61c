package import JobModel
package import Support
import Synchronization

/// One watch: what it still has to send, and how to tell that there is something.
///
/// There are very many of them, so whatever belongs to a watch is in this one object. The feed holds it, and it the
/// feed, until it is closed.
package final class Subscription: Sendable {
    /// What the watch does next.
    package enum Item: Sendable {
        case action(WatchBuffer.Action)
        case heartbeat
        /// The feed has ended.
        case over
    }

    package enum Scope: Sendable, Hashable {
        case jobs
        /// With memory of its own: most watches are of jobs. `users`: for whom the watcher may act; what is of others it
        /// is never told.
        indirect case everything(userID: ExactText?, queue: String?, users: UserScope)

        func holds(userID: ExactText, queue: String) -> Bool {
            guard case .everything(let ofUser, let inQueue, let users) = self else { return false }
            return (ofUser == nil || ofUser == userID) && (inQueue == nil || inQueue == queue)
                && users.contains(userID)
        }
    }

    /// In a struct: in a lock, a function by itself is wrapped in one more layer at each look.
    private struct Waker: Sendable {
        var wake: @Sendable () -> Void
    }

    private struct State: Sendable {
        var buffer: WatchBuffer
        var heartbeatIsDue = false
        var isOver = false
        /// Told to wait; to be woken when there is something.
        var isWaiting = false
        var waker: Waker?
        var lastLogLine: [JobID: Int64] = [:]
    }

    package let feed: JobFeed
    package let scope: Scope
    /// The named jobs by their numbers in the database. A watch of a user or a queue has none: it learns of its jobs from
    /// their events.
    let jobs: SmallMap<Int64, JobID>
    package let includesLog: Bool
    /// Whether its watcher may be told on which node a job runs.
    package let namesNodes: Bool
    /// Where the feed keeps it: the second of its heartbeat, and its place there.
    let beat: UInt8
    let slot: Int32
    private let state: Mutex<State>

    init(
        feed: JobFeed, scope: Scope, jobs: SmallMap<Int64, JobID>, includesLog: Bool, namesNodes: Bool, beat: UInt8, slot: Int32
    ) {
        self.feed = feed
        self.scope = scope
        self.jobs = jobs
        self.includesLog = includesLog
        self.namesNodes = namesNodes
        self.beat = beat
        self.slot = slot
        state = Mutex(State(buffer: WatchBuffer(namesJobs: scope == .jobs)))
    }

    /// Whose jobs it may tell of. Those that are named were looked up for the watcher already.
    package var users: UserScope {
        switch scope {
        case .jobs: .all
        case .everything(let userID?, _, _): .only([userID])
        case .everything(nil, _, let users): users
        }
    }

    /// How the database names the jobs that are named.
    package var numbers: [JobID: Int64] {
        var numbers: [JobID: Int64] = [:]
        for number in jobs.keys { if let job = jobs[number] { numbers[job] = number } }
        return numbers
    }

    /// `wake` is called once after each time that `take` said to wait.
    package func onReady(_ wake: @escaping @Sendable () -> Void) {
        state.withLock { $0.waker = Waker(wake: wake) }
    }

    /// The feed tells it nothing any more. Called once.
    package func close() {
        feed.remove(self)
    }

    /// The next thing to do.
    package func take() -> Item {
        state.withLock { state in
            if state.isOver { return .over }
            let action = state.buffer.next()
            guard case .wait = action else { return .action(action) }
            if state.heartbeatIsDue {
                state.heartbeatIsDue = false
                return .heartbeat
            }
            state.isWaiting = true
            return .action(.wait)
        }
    }

    package func track(_ job: JobID, delivered sequence: Int64, isFinal: Bool) {
        change { state in
            state.buffer.track(job, delivered: sequence, isFinal: isFinal)
            if includesLog { state.lastLogLine[job] = state.lastLogLine[job] ?? 0 }
        }
    }

    /// Those of the saved lines that were not told yet; they count as told from here on.
    package func unsent(_ lines: [LogLine], of job: JobID) -> [LogLine] {
        state.withLock { state in
            let last = state.lastLogLine[job] ?? 0
            state.lastLogLine[job] = max(last, lines.last?.number ?? 0)
            return lines.filter { $0.number > last }
        }
    }

    /// The last line that was told of a job's log; nil if it is not wanted, or if whoever tracks the job is to read it
    /// first.
    func lastLogLine(of job: JobID) -> Int64? {
        state.withLock { includesLog ? $0.lastLogLine[job] : nil }
    }

    package func caughtUp(_ events: [JobID: [JobEvent]]) {
        change { $0.buffer.caughtUp(events) }
    }

    /// False when it is progress that is wanted once more when it is saved (`WatchBuffer.receive`).
    @discardableResult
    func receive(_ news: JobNews) -> Bool {
        var isSure = false
        change { isSure = $0.buffer.receive(news) }
        return isSure
    }

    /// Lines that are just being said follow the last one, or wait until they are saved: there may be others
    /// in between.
    func receive(_ lines: [LogLine], isSaved: Bool, of job: JobID) {
        guard includesLog else { return }
        change { state in
            // Before the job is tracked, whoever tracks it will read what is saved.
            guard let last = state.lastLogLine[job] else { return }
            guard isSaved || lines.first?.number == last + 1 else { return }
            let new = lines.filter { $0.number > last }
            guard let newest = new.last else { return }
            state.lastLogLine[job] = newest.number
            state.buffer.receive(log: new, of: job)
        }
    }

    func heard(of job: JobID, sequence: Int64) {
        change { $0.buffer.heard(of: job, sequence: sequence) }
    }

    /// Nobody knows what was missed: look at every job again.
    func recheck() {
        change { $0.buffer.recheck() }
    }

    func beatHeart() {
        change { $0.heartbeatIsDue = true }
    }

    func end() {
        change { $0.isOver = true }
    }

    private func change(_ body: (inout State) -> Void) {
        let waker = state.withLock { state -> Waker? in
            body(&state)
            guard state.isWaiting, state.isOver || state.heartbeatIsDue || state.buffer.hasNext else {
                return nil
            }
            state.isWaiting = false
            return state.waker
        }
        waker?.wake()
    }
}
