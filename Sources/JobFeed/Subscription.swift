package import JobCore
import Synchronization

/// One watch: what it still has to send, and how to tell that there is something.
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
        case everything(userID: String?, queue: String?)

        func holds(userID: String, queue: String) -> Bool {
            guard case .everything(let ofUser, let inQueue) = self else { return false }
            return (ofUser == nil || ofUser == userID) && (inQueue == nil || inQueue == queue)
        }
    }

    private struct State {
        var buffer: WatchBuffer
        var heartbeatIsDue = false
        var isOver = false
        /// Told to wait; to be woken when there is something.
        var isWaiting = false
        var wake: (@Sendable () -> Void)?
        var lastLogLine: [JobID: Int64] = [:]
    }

    package let scope: Scope
    package let includesLog: Bool
    private let state: Mutex<State>

    package init(scope: Scope, includesLog: Bool) {
        self.scope = scope
        self.includesLog = includesLog
        state = Mutex(State(buffer: WatchBuffer(namesJobs: scope == .jobs)))
    }

    /// `wake` is called once after each time that `next` said to wait.
    package func onReady(_ wake: @escaping @Sendable () -> Void) {
        state.withLock { $0.wake = wake }
    }

    /// The next thing to do.
    package func next() -> Item {
        state.withLock { state in
            if state.isOver { return .over }
            let action = state.buffer.next()
            if action == .wait {
                if state.heartbeatIsDue {
                    state.heartbeatIsDue = false
                    return .heartbeat
                }
                state.isWaiting = true
            }
            return .action(action)
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

    func receive(_ event: JobEvent) {
        change { $0.buffer.receive(event) }
    }

    func receive(_ progress: Progress, attempt: Int, of job: JobID) {
        change { $0.buffer.receive(progress: progress, attempt: attempt, of: job) }
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

    func beat() {
        change { $0.heartbeatIsDue = true }
    }

    func end() {
        change { $0.isOver = true }
    }

    private func change(_ body: (inout State) -> Void) {
        let wake = state.withLock { state -> (@Sendable () -> Void)? in
            body(&state)
            guard state.isWaiting, state.isOver || state.heartbeatIsDue || state.buffer.hasNext else {
                return nil
            }
            state.isWaiting = false
            return state.wake
        }
        wake?()
    }
}
