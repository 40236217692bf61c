package import JobModel
package import JobStore
import Support
import Synchronization

/// One watch: what it still has to send, and how it wakes its reader.
///
/// There are very many watches, so all that belongs to one is in this object. It and the hub hold each other until it is
/// closed or the hub has ended.
package final class Subscription: Sendable {
    /// The watch's next step.
    package enum Item: Sendable {
        case action(WatchBuffer.Action)
        case heartbeat
        /// The hub has ended.
        case over
    }

    /// A struct: a lock that holds a function by itself wraps it in one more layer at each access.
    private struct Waker: Sendable {
        var wake: @Sendable () -> Void
    }

    private struct State: Sendable {
        var buffer: WatchBuffer
        var heartbeatIsDue = false
        /// The events and log lines that were sent since the last resume token of named jobs.
        var sentSinceToken = 0
        var isOver = false
        /// `take` has returned `wait`, and the waker has not been called since.
        var isWaiting = false
        var waker: Waker?
        var lastLogLine: [JobID: Int64] = [:]
    }

    /// The events and log lines of named jobs after which a heartbeat has a new resume token.
    static let repeatsMax = 16

    package let hub: WatchHub
    let target: WatchTarget
    /// The named jobs by their numbers in the database. A watch of a user or a queue has none: it learns of its jobs from
    /// their events.
    let jobs: SmallMap<Int64, JobID>
    package let includesLog: Bool
    /// Whether its events say on which node the job runs.
    package let namesNodes: Bool
    /// Where the hub keeps it: the second of its heartbeat, and its slot in the list of that second.
    let beat: UInt8
    let slot: Int32
    private let state: Mutex<State>

    init(
        hub: WatchHub, target: WatchTarget, jobs: SmallMap<Int64, JobID>, includesLog: Bool,
        namesNodes: Bool, beat: UInt8, slot: Int32
    ) {
        self.hub = hub
        self.target = target
        self.jobs = jobs
        self.includesLog = includesLog
        self.namesNodes = namesNodes
        self.beat = beat
        self.slot = slot
        state = Mutex(State(buffer: WatchBuffer(namesJobs: target == .jobs)))
    }

    /// The users whose jobs it may report. Named jobs were looked up for the caller already.
    package var users: UserScope { target.users }

    /// The numbers that the named jobs have in the database.
    package var numbers: [JobID: Int64] {
        var numbers: [JobID: Int64] = [:]
        for number in jobs.keys { if let job = jobs[number] { numbers[job] = number } }
        return numbers
    }

    /// Whether it names the job, and knows it by this number.
    func names(_ job: JobID, as number: Int64) -> Bool { jobs[number] == job }

    /// `wake` is called once after each time that `take` has returned `wait`.
    package func setWaker(_ wake: @escaping @Sendable () -> Void) {
        state.withLock { $0.waker = Waker(wake: wake) }
    }

    /// Takes it out of the hub. Call it once.
    package func unsubscribe() {
        hub.remove(self)
    }

    /// The next thing to do.
    package func take() -> Item {
        state.withLock { state in
            if state.isOver { return .over }
            let action = state.buffer.next()
            switch action {
            case .wait: break
            case .send(let update):
                // Progress is not in a token.
                if !update.isProgress { state.sentSinceToken += 1 }
                return .action(action)
            case .sendLog(_, let lines):
                state.sentSinceToken += lines.count
                return .action(action)
            case .read, .end, .overflow:
                return .action(action)
            }
            if state.heartbeatIsDue {
                state.heartbeatIsDue = false
                return .heartbeat
            }
            state.isWaiting = true
            return .action(.wait)
        }
    }

    /// - Parameter logLine: the last line of the job's log that the client has.
    package func track(_ job: JobID, delivered sequence: Int64, isFinal: Bool, logLine: Int64 = 0) {
        change { state in
            state.buffer.track(job, delivered: sequence, isFinal: isFinal)
            if includesLog { state.lastLogLine[job] = state.lastLogLine[job] ?? logLine }
        }
    }

    /// Adds a named job that does not exist, which the client knows.
    package func track(removed job: JobID) {
        change { $0.buffer.track(removed: job) }
    }

    /// The resume token for what was sent so far. Nil: the previous token is still valid, or there is none.
    ///
    /// A watch of named jobs repeats what was sent since its token, so a new one is made only when that is much: most jobs
    /// have few events, and a token costs more than they do. A place in the change log gets too old in its time, so each
    /// heartbeat of a watch of a user or a queue has one, unless more is still to be sent.
    package func resumeToken() -> String? {
        guard case .all(let userID, let queue, _) = target else {
            return state.withLock { $0.sentSinceToken >= Self.repeatsMax } ? jobsToken() : nil
        }
        // In this order: what happens before this place has been received when the buffer is looked at. A watch that has
        // ended may have missed changes before the place.
        guard let place = hub.place, state.withLock({ !$0.isOver && $0.buffer.hasSentAll }) else {
            return nil
        }
        return hub.tokens.encode(.changes(place), of: .all(userID: userID, queue: queue), for: users)
    }

    /// The resume token of a watch that has sent all of its beginning.
    ///
    /// - Parameter place: everything before it was sent, by a watch of a user or a queue. Nil: such a watch has no token.
    package func resumeToken(at place: ChangePlace?) -> String? {
        guard case .all(let userID, let queue, _) = target else { return jobsToken() }
        return place.flatMap {
            hub.tokens.encode(.changes($0), of: .all(userID: userID, queue: queue), for: users)
        }
    }

    private func jobsToken() -> String? {
        let numbers = numbers
        let places = state.withLock { state in
            state.sentSinceToken = 0
            return state.buffer.places(numbers: numbers) { state.lastLogLine[$0] ?? 0 }
        }
        return hub.tokens.encode(.jobs(places), of: .jobs(Array(places.keys)))
    }

    /// Whether it is of the jobs of a lane.
    package func includes(_ lane: LaneName) -> Bool { target.includes(lane) }

    /// Takes note of saved lines of a job's log that its reader sends now. Those of them that came through the hub since the
    /// job is tracked are not sent again.
    package func sendsLog(of job: JobID, upTo number: Int64) {
        state.withLock { state in
            state.lastLogLine[job] = max(state.lastLogLine[job] ?? 0, number)
            state.buffer.dropLog(of: job, upTo: number)
        }
    }

    /// The last line of a job's log that it has received. Nil if it does not want the log, or if the caller of `track` has
    /// not read it yet.
    func lastLogLine(of job: JobID) -> Int64? {
        state.withLock { includesLog ? $0.lastLogLine[job] : nil }
    }

    package func caughtUp(_ events: [JobID: [JobEvent]], removed: Set<JobID> = []) {
        change { $0.buffer.caughtUp(events, removed: removed) }
    }

    /// False for progress that has to be sent to it again once it is saved (`WatchBuffer.receive`).
    @discardableResult
    package func receive(_ update: WatchUpdate) -> Bool {
        var hasIt = false
        change { hasIt = $0.buffer.receive(update) }
        return hasIt
    }

    /// Lines that are not saved yet are taken if they follow the last one. Otherwise there may be others in between, and
    /// they are taken once they are saved.
    func receive(_ lines: [LogLine], isSaved: Bool, of job: JobID) {
        guard includesLog else { return }
        change { state in
            // Until the job is tracked its log is left to the caller of `track`, who reads what is saved.
            guard let last = state.lastLogLine[job] else { return }
            guard isSaved || lines.first.map({ $0.number - 1 }) == last else { return }
            let new = lines.filter { $0.number > last }
            guard let newest = new.last else { return }
            state.lastLogLine[job] = newest.number
            state.buffer.receive(log: new, of: job)
        }
    }

    /// There may be events of a job up to `sequence`, which have to be read from the database.
    package func noteEvents(of job: JobID, upTo sequence: Int64) {
        change { $0.buffer.noteEvents(of: job, upTo: sequence) }
    }

    /// Looks at every job again: events may have been missed.
    func recheck() {
        change { $0.buffer.recheck() }
    }

    func sendHeartbeat() {
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
