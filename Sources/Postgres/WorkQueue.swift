import DequeModule
import Synchronization

/// What waits for a connection, and who waits for work. The one lock of a `Database`; continuations are
/// resumed after it is released.
final class WorkQueue: Sendable {
    enum Outcome {
        case refused(PostgresError)
        case start(Connection)
    }

    struct Work: Sendable {
        let id: UInt64
        let deadline: ContinuousClock.Instant
        /// Refused when the queue is full.
        let isBounded: Bool
        /// Called exactly once, never under the lock.
        let finish: @Sendable (Outcome) -> Void
    }

    enum Next {
        case work(Work)
        /// Nothing to do: wait for the waker.
        case wait
        case leave
    }

    private struct State {
        /// Filled by `add`; emptied by workers, cancellation and the clock.
        var waiting = Deque<Work>()
        /// The workers that wait for their waker, most recent last.
        var idle: [Int] = []
        var connectedCount = 0
        /// Why there is no connection; for the errors of those who waited in vain.
        var connectError: PostgresError?
        var isShuttingDown = false
        var workersLeft: Int
        /// Whether the clock thread sleeps until there is something to expire.
        var clockSleeps = false
        var shutdownWaiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state: Mutex<State>
    private let countMax: Int
    private let ids = Atomic<UInt64>(0)
    let wakers: [Waker]
    private let clock: Waker

    init(workerCount: Int, countMax: Int) throws(PostgresError) {
        var wakers: [Waker] = []
        for _ in 0..<workerCount { wakers.append(try Waker()) }
        self.wakers = wakers
        self.clock = try Waker()
        self.countMax = countMax
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
            guard state.waiting.count < countMax || !work.isBounded else {
                return .refuse(PostgresError(.overloaded, "\(countMax) pieces of work wait for a connection"))
            }
            state.waiting.append(work)
            if let worker = state.idle.popLast() { return .wake(worker) }
            guard state.clockSleeps else { return .nothing }
            state.clockSleeps = false
            return .wakeClock
        }
        switch decision {
        case .refuse(let error): work.finish(.refused(error))
        case .wake(let worker): wakers[worker].wake()
        case .wakeClock: clock.wake()
        case .nothing: break
        }
    }

    /// Takes work back that has not started; does nothing when it has.
    func cancel(_ id: UInt64) {
        let work = state.withLock { state -> Work? in
            guard let index = state.waiting.firstIndex(where: { $0.id == id }) else { return nil }
            return state.waiting.remove(at: index)
        }
        work?.finish(.refused(PostgresError(.cancelled, "the task was cancelled before the work started")))
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

    /// What the worker, which has a connection, does next.
    func next(for worker: Int) -> Next {
        state.withLock { state in
            state.idle.removeAll { $0 == worker }
            if let work = state.waiting.popFirst() { return .work(work) }
            if state.isShuttingDown { return .leave }
            state.idle.append(worker)
            return .wait
        }
    }

    /// Whether a worker without a connection should go on trying to get one.
    func wantsConnection() -> Bool {
        state.withLock { !$0.isShuttingDown || !$0.waiting.isEmpty }
    }

    func connected() {
        state.withLock { state in
            state.connectedCount += 1
            state.connectError = nil
        }
    }

    /// The worker's connection is gone. It may have been woken for work that another can do.
    func disconnected(_ worker: Int) {
        let other = state.withLock { state -> Int? in
            state.connectedCount -= 1
            state.idle.removeAll { $0 == worker }
            return state.waiting.isEmpty ? nil : state.idle.popLast()
        }
        if let other { wakers[other].wake() }
    }

    func connectFailed(_ error: PostgresError) {
        state.withLock { $0.connectError = error }
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
                var expired: [Work] = []
                if state.waiting.contains(where: { $0.deadline <= now }) {
                    expired = state.waiting.filter { $0.deadline <= now }
                    state.waiting.removeAll { $0.deadline <= now }
                }
                let error = state.connectedCount == 0 ? state.connectError : nil
                guard state.waiting.isEmpty else { return (.tick, expired, error) }
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
