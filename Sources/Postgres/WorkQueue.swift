import DequeModule
import Synchronization
import Threads

/// The work that waits for a connection, and the workers that wait for work. It has the one lock of a `Database`;
/// continuations are resumed after the lock is released.
///
/// There are two queues, for short and for long work. A worker takes the work that arrived first. At any time, two
/// workers are left to short work, so that long work does not delay it; of fewer than three workers, one may do long
/// work.
final class WorkQueue: Sendable {
    enum Outcome {
        case refused(PostgresError)
        case start(Connection)
    }

    struct Work: Sendable {
        /// Ids increase in the order of arrival.
        let id: UInt64
        let deadline: ContinuousClock.Instant
        /// Whether the work is refused when the queue is full.
        let isBounded: Bool
        /// Whether the work may take seconds. The workers never all do such work at once, unless there is only
        /// one.
        let isLong: Bool
        /// Whether the statement is stopped if the work is cancelled after it has started.
        var isInterruptible = false
        /// Is called exactly once, never under the lock.
        let finish: @Sendable (Outcome) -> Void
    }

    /// Asks the server to stop a statement. It may block for minutes.
    typealias Cancel = @Sendable () -> Void

    enum Next {
        case work(Work)
        /// There is no work. The worker waits for its waker, at most until the time given, and then calls `next`
        /// again.
        case wait(until: ContinuousClock.Instant?)
        /// The request to stop one of this connection's statements hangs. The worker closes the connection and
        /// reconnects.
        case reconnect
        case leave
    }

    /// A request to stop a statement that is in flight.
    private struct Interruption {
        /// The work whose statement is being stopped.
        let id: UInt64
        /// The time at which the connection is given up.
        let end: ContinuousClock.Instant
    }

    private struct State {
        /// Short work. It is filled by `add`, and emptied by workers, cancellation and the clock.
        var waiting = Deque<Work>()
        /// Long work, filled and emptied in the same way.
        var waitingLong = Deque<Work>()
        /// The workers that do long work now.
        var longWorkers: Set<Int> = []
        /// The id of the interruptible work that a worker runs, by worker.
        var interruptible: [Int: UInt64] = [:]
        /// The interruptions in flight, by worker. Such a worker begins nothing else on its connection until the
        /// interruption is over, because it might stop the next statement instead. A new connection has another
        /// process of the server and is not affected.
        var interrupted: [Int: Interruption] = [:]
        /// The number of threads that stop statements. A hanging one may outlive its worker's connection by far.
        var interruptersCount = 0
        /// The functions that stop the statement of a worker, by connected worker.
        var cancellers: [Int: Cancel] = [:]
        /// The workers that wait for their waker, the most recent last.
        var idle: [Int] = []
        var connectedCount = 0
        /// The last reason why there is no connection, for the errors of work that has timed out.
        var connectError: PostgresError?
        var outageLog = OutageLog()
        var isShuttingDown = false
        var workersLeft: Int
        /// Whether the clock thread sleeps until it is woken, because no work waits.
        var clockSleeps = false
        var shutdownWaiters: [CheckedContinuation<Void, Never>] = []

        var isEmpty: Bool { waiting.isEmpty && waitingLong.isEmpty }

        /// Whether a free worker would find work.
        func hasWork(longMax: Int) -> Bool {
            !waiting.isEmpty || !waitingLong.isEmpty && longWorkers.count < longMax
        }

        /// Removes and returns an idle worker if there is work that it may do.
        mutating func idleForWork(longMax: Int) -> Int? {
            hasWork(longMax: longMax) ? idle.popLast() : nil
        }

        /// Removes and returns the oldest work that the worker may do.
        mutating func take(for worker: Int, longMax: Int) -> Work? {
            let long = longWorkers.count < longMax ? waitingLong.first : nil
            if let long, waiting.first.map({ long.id < $0.id }) ?? true {
                longWorkers.insert(worker)
                return waitingLong.removeFirst()
            }
            return waiting.popFirst()
        }

        mutating func remove(where isGone: (Work) -> Bool) -> [Work] {
            let gone = waiting.filter(isGone) + waitingLong.filter(isGone)
            guard !gone.isEmpty else { return [] }
            waiting.removeAll(where: isGone)
            waitingLong.removeAll(where: isGone)
            return Array(gone)
        }

        /// Returns true if the clock is to be woken, because work waits that may time out.
        mutating func wakesClock() -> Bool {
            guard clockSleeps, !isEmpty else { return false }
            clockSleeps = false
            return true
        }
    }

    private let state: Mutex<State>
    /// The most work of each queue.
    private let countMax: Int
    /// The most workers that do long work at once.
    private let longMax: Int
    /// The time that a worker waits for the end of an interruption before it reconnects.
    private let interruptionTimeout: Duration
    private let ids = Atomic<UInt64>(0)
    let wakers: [Waker]
    private let clock: Waker

    init(
        workerCount: Int, countMax: Int, interruptionTimeout: Duration
    ) throws(PostgresError) {
        var wakers: [Waker] = []
        for _ in 0..<workerCount { wakers.append(try Waker()) }
        self.wakers = wakers
        self.clock = try Waker()
        self.countMax = countMax
        self.interruptionTimeout = interruptionTimeout
        self.longMax = max(1, workerCount - 2)
        self.state = Mutex(State(workersLeft: workerCount))
    }

    func nextID() -> UInt64 {
        ids.add(1, ordering: .relaxed).newValue
    }

    // MARK: Callers

    func add(_ work: Work) {
        enum Decision {
            case refuse(PostgresError)
            case wake(Int)
            case wakeClock
            case nothing
        }
        let decision = state.withLock { state -> Decision in
            if state.isShuttingDown { return .refuse(PostgresError(.shutdown, "the database was shut down")) }
            let waitingCount = (work.isLong ? state.waitingLong : state.waiting).count
            guard waitingCount < countMax || !work.isBounded else {
                return .refuse(
                    PostgresError(
                        .overloaded, "the queue for database connections is full: \(countMax) are waiting"))
            }
            if work.isLong { state.waitingLong.append(work) } else { state.waiting.append(work) }
            if let worker = state.idleForWork(longMax: longMax) { return .wake(worker) }
            return state.wakesClock() ? .wakeClock : .nothing
        }
        switch decision {
        case .refuse(let error): work.finish(.refused(error))
        case .wake(let worker): wakers[worker].wake()
        case .wakeClock: clock.wake()
        case .nothing: break
        }
    }

    /// Removes work that has not started, or stops the statement of work that has started and may be interrupted.
    func cancel(_ id: UInt64) {
        let (found, worker, cancel) = state.withLock { state -> ([Work], Int, Cancel?) in
            let found = state.remove { $0.id == id }
            guard let worker = state.interruptible.first(where: { $0.value == id })?.key,
                let cancel = state.cancellers[worker], state.interrupted[worker] == nil,
                // So many requests hang only if none gets through. The statement then runs to its end or its
                // timeout.
                state.interruptersCount < wakers.count
            else { return (found, 0, nil) }
            state.interrupted[worker] = Interruption(id: id, end: .now + interruptionTimeout)
            state.interruptersCount += 1
            return (found, worker, cancel)
        }
        found.first?.finish(
            .refused(PostgresError(.cancelled, "the task was cancelled before the work started")))
        guard let cancel else { return }
        do throws(OSThreadError) {
            try OSThread.start { [self] in
                cancel()
                interruptionIsOver(id, worker)
            }
        } catch {
            // There is no thread to stop it, so the statement runs to its end or its timeout.
            interruptionIsOver(id, worker)
        }
    }

    /// Ends an interruption. The worker may have another connection by now, and another interruption on that one.
    private func interruptionIsOver(_ id: UInt64, _ worker: Int) {
        state.withLock { state in
            state.interruptersCount -= 1
            if state.interrupted[worker]?.id == id { state.interrupted[worker] = nil }
        }
        wakers[worker].wake()
    }

    func beginShutdown() {
        state.withLock { $0.isShuttingDown = true }
        for waker in wakers { waker.wake() }
        clock.wake()
    }

    func waitForWorkers() async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                if state.workersLeft > 0 { state.shutdownWaiters.append(continuation) }
                return state.workersLeft == 0
            }
            if isOver { continuation.resume() }
        }
    }

    // MARK: Workers

    /// Decides what a worker with a connection does next. Its last work is over.
    func next(for worker: Int, now: ContinuousClock.Instant = .now) -> Next {
        let (next, other, wakesClock) = state.withLock { state -> (Next, Int?, Bool) in
            state.idle.removeAll { $0 == worker }
            state.longWorkers.remove(worker)
            state.interruptible[worker] = nil
            if let interruption = state.interrupted[worker] {
                // Another worker takes the work that this one could have taken, such as long work now that this
                // one has ended its own.
                let other = state.idleForWork(longMax: longMax)
                let isHanging = interruption.end <= now
                let next: Next = isHanging ? .reconnect : .wait(until: interruption.end)
                return (state.isShuttingDown ? .leave : next, other, state.wakesClock())
            }
            if let work = state.take(for: worker, longMax: longMax) {
                if work.isInterruptible { state.interruptible[worker] = work.id }
                return (.work(work), nil, false)
            }
            // Long work that still waits is left to the workers that do long work now.
            if state.isShuttingDown { return (.leave, nil, false) }
            state.idle.append(worker)
            return (.wait(until: nil), nil, state.wakesClock())
        }
        if let other { wakers[other].wake() }
        if wakesClock { clock.wake() }
        return next
    }

    /// Whether a worker without a connection should keep trying to connect.
    func needsConnection() -> Bool {
        state.withLock { !$0.isShuttingDown || !$0.isEmpty }
    }

    /// Records that a worker has connected. Returns whether to log it.
    func connected(_ worker: Int, _ cancel: Cancel?) -> Bool {
        state.withLock { state in
            state.connectedCount += 1
            state.cancellers[worker] = cancel
            state.connectError = nil
            return state.outageLog.connected()
        }
    }

    /// Records that a worker's connection is gone. The worker may have been woken for work that another one can
    /// do.
    func disconnected(_ worker: Int) {
        let (other, wakesClock) = state.withLock { state -> (Int?, Bool) in
            state.connectedCount -= 1
            state.cancellers[worker] = nil
            state.interruptible[worker] = nil
            state.interrupted[worker] = nil
            state.idle.removeAll { $0 == worker }
            state.longWorkers.remove(worker)
            return (state.idleForWork(longMax: longMax), state.wakesClock())
        }
        if let other { wakers[other].wake() }
        if wakesClock { clock.wake() }
    }

    /// Records a failure to connect. Returns whether to log it.
    func connectFailed(_ error: PostgresError) -> Bool {
        state.withLock { state in
            state.connectError = error
            return state.outageLog.connectFailed(now: .now)
        }
    }

    func workerLeft() {
        let waiters = state.withLock { state in
            state.workersLeft -= 1
            guard state.workersLeft == 0 else { return [CheckedContinuation<Void, Never>]() }
            defer { state.shutdownWaiters = [] }
            return state.shutdownWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    // MARK: The clock

    /// The body of the clock thread. It fails work whose deadline has passed, within 20 ms, until shutdown leaves
    /// nothing that can wait.
    func expireUntilShutdown() {
        while true {
            enum Plan {
                case sleep
                case tick
                case leave
            }
            let (plan, expired, error) = state.withLock { state -> (Plan, [Work], PostgresError?) in
                let now = ContinuousClock.now
                let expired = state.remove { $0.deadline <= now }
                let error = state.connectedCount == 0 ? state.connectError : nil
                guard state.isEmpty else { return (.tick, expired, error) }
                if state.isShuttingDown { return (.leave, expired, error) }
                state.clockSleeps = true
                return (.sleep, expired, error)
            }
            for work in expired {
                work.finish(.refused(error ?? PostgresError(.timeout, "no connection was free in time")))
            }
            switch plan {
            case .leave:
                // A worker that waits to reconnect has no work left to connect for.
                for waker in wakers { waker.wake() }
                return
            case .sleep:
                _ = Poll.wait((clock.descriptor, Poll.readable), until: nil)
                clock.drain()
            case .tick:
                _ = Poll.wait((clock.descriptor, Poll.readable), until: .now + .milliseconds(20))
                clock.drain()
            }
        }
    }
}
