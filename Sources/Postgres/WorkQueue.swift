import DequeModule
import Synchronization

/// What waits for a connection, and who waits for work. The one lock of a `Database`; continuations are
/// resumed after it is released.
///
/// There are two lines. A worker takes what came first, but no more than all but two of them, and always one, do long
/// work at once: the others are for what is short.
final class WorkQueue: Sendable {
    enum Outcome {
        case refused(PostgresError)
        case start(Connection)
    }

    struct Work: Sendable {
        /// Grows from one to the next.
        let id: UInt64
        let deadline: ContinuousClock.Instant
        /// Refused when the queue is full.
        let isBounded: Bool
        /// May take seconds: never done by all workers at once.
        let isLong: Bool
        /// When it is cancelled after it has started, its statement is stopped.
        var isInterruptible = false
        /// Called exactly once, never under the lock.
        let finish: @Sendable (Outcome) -> Void
    }

    /// Blocks, perhaps for minutes.
    typealias Cancel = @Sendable () -> Void

    enum Next {
        case work(Work)
        /// Nothing to do: wait for the waker. Until then, if there is a time, and then ask again.
        case wait(until: ContinuousClock.Instant?)
        /// A request to stop one of this connection's statements hangs: close it, and connect anew.
        case reconnect
        case leave
    }

    /// A statement that is being stopped.
    private struct Interruption {
        /// The work whose it is.
        let id: UInt64
        /// Then the connection is given up.
        let end: ContinuousClock.Instant
    }

    private struct State {
        /// Filled by `add`; emptied by workers, cancellation and the clock.
        var waiting = Deque<Work>()
        /// The same for long work.
        var waitingLong = Deque<Work>()
        /// The workers that do long work.
        var longWorkers: Set<Int> = []
        /// What workers do that may be interrupted, by worker.
        var interruptible: [Int: UInt64] = [:]
        /// The workers whose statement is being stopped: on this connection they begin nothing else until that is
        /// over, or it might be stopped instead. A new connection is another process of the server.
        var interrupted: [Int: Interruption] = [:]
        /// The threads that stop statements: of one that hangs, the connection may be gone long before it is.
        var interruptersCount = 0
        /// How to stop what a worker runs, of those that are connected.
        var cancellers: [Int: Cancel] = [:]
        /// The workers that wait for their waker, most recent last.
        var idle: [Int] = []
        var connectedCount = 0
        /// Why there is no connection; for the errors of those who waited in vain.
        var connectError: PostgresError?
        var outageLog = OutageLog()
        var isShuttingDown = false
        var workersLeft: Int
        /// Whether the clock thread sleeps until there is something to expire.
        var clockSleeps = false
        var shutdownWaiters: [CheckedContinuation<Void, Never>] = []

        var isEmpty: Bool { waiting.isEmpty && waitingLong.isEmpty }

        /// Whether a worker that is free finds something to do.
        func hasWork(longMax: Int) -> Bool {
            !waiting.isEmpty || !waitingLong.isEmpty && longWorkers.count < longMax
        }

        /// A worker that waits for its waker, if there is something for it to do.
        mutating func idleForWork(longMax: Int) -> Int? {
            hasWork(longMax: longMax) ? idle.popLast() : nil
        }

        /// What came first, of what the worker may do.
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

        /// True when the clock is to be woken: something waits that nobody may take soon.
        mutating func wakesClock() -> Bool {
            guard clockSleeps, !isEmpty else { return false }
            clockSleeps = false
            return true
        }
    }

    private let state: Mutex<State>
    /// Of each line.
    private let countMax: Int
    /// Workers that do long work at once.
    private let longMax: Int
    /// How long a worker waits for the end of an interruption.
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
                return .refuse(PostgresError(.overloaded, "\(countMax) pieces of work wait for a connection"))
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

    /// Takes work back that has not started; stops the statement of work that has, if it may be interrupted.
    func cancel(_ id: UInt64) {
        let (found, worker, cancel) = state.withLock { state -> ([Work], Int, Cancel?) in
            let found = state.remove { $0.id == id }
            guard let worker = state.interruptible.first(where: { $0.value == id })?.key,
                let cancel = state.cancellers[worker], state.interrupted[worker] == nil,
                // So many hang only where no request gets through. The statement runs to its end, or its timeout.
                state.interruptersCount < wakers.count
            else { return (found, 0, nil) }
            state.interrupted[worker] = Interruption(id: id, end: .now + interruptionTimeout)
            state.interruptersCount += 1
            return (found, worker, cancel)
        }
        found.first?.finish(
            .refused(PostgresError(.cancelled, "the task was cancelled before the work started")))
        guard let cancel else { return }
        do throws(PostgresError) {
            try OSThread.start { [self] in
                cancel()
                interruptionIsOver(id, worker)
            }
        } catch {
            // No thread to do it: the statement runs to its end, or its timeout.
            interruptionIsOver(id, worker)
        }
    }

    /// The worker may have another connection by now, and another interruption of that.
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

    /// What the worker, which has a connection, does next. What it did is over.
    func next(for worker: Int, now: ContinuousClock.Instant = .now) -> Next {
        let (next, other, wakesClock) = state.withLock { state -> (Next, Int?, Bool) in
            state.idle.removeAll { $0 == worker }
            state.longWorkers.remove(worker)
            state.interruptible[worker] = nil
            if let interruption = state.interrupted[worker] {
                // What it might have taken now, and was not for others as long as it did long work.
                let other = state.idleForWork(longMax: longMax)
                let isHanging = interruption.end <= now
                let next: Next = isHanging ? .reconnect : .wait(until: interruption.end)
                return (state.isShuttingDown ? .leave : next, other, state.wakesClock())
            }
            if let work = state.take(for: worker, longMax: longMax) {
                if work.isInterruptible { state.interruptible[worker] = work.id }
                return (.work(work), nil, false)
            }
            // Long work that still waits is left to those that do such work now.
            if state.isShuttingDown { return (.leave, nil, false) }
            state.idle.append(worker)
            return (.wait(until: nil), nil, state.wakesClock())
        }
        if let other { wakers[other].wake() }
        if wakesClock { clock.wake() }
        return next
    }

    /// Whether a worker without a connection should go on trying to get one.
    func wantsConnection() -> Bool {
        state.withLock { !$0.isShuttingDown || !$0.isEmpty }
    }

    /// True when it is to be logged.
    func connected(_ worker: Int, _ cancel: Cancel?) -> Bool {
        state.withLock { state in
            state.connectedCount += 1
            state.cancellers[worker] = cancel
            state.connectError = nil
            return state.outageLog.connected()
        }
    }

    /// The worker's connection is gone. It may have been woken for work that another can do.
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

    /// True when it is to be logged.
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

    /// The body of the clock thread: fails work that waited too long, within 20 ms, until nothing can wait any more.
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
                // A worker that waits to connect again has nothing to connect for.
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
