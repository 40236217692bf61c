package import JobModel
import Glibc
import Synchronization
import TestRandom

/// A process of the simulated cluster, or the world around them.
package struct ProcessID: Sendable, Hashable {
    package let index: Int

    package static let world = ProcessID(index: 0)
}

/// Runs everything that a simulation does on the one thread that drives it, in an order that a seed decides, under a
/// clock that only moves when nothing else can run.
///
/// Each process has a task executor that queues its jobs here. What is ready runs in a random order, which is what
/// tasks may expect of a pool of threads. When nothing is ready, the clock moves to the next timer, and everything that
/// is due at that moment becomes ready at once.
package final class SimulationScheduler: Sendable {
    fileprivate enum Work {
        case job(UnownedJob, ProcessExecutor)
        case call(@Sendable () -> Void)
    }

    fileprivate enum Timer {
        case call(@Sendable () -> Void)
        case sleeper(CheckedContinuation<Void, any Error>)
    }

    fileprivate struct Process {
        /// Its clocks go on while none of its code runs.
        var isFrozen = false
        /// What became ready while it was frozen.
        var parked: [Work] = []
    }

    fileprivate struct State {
        var random: SeededRandom
        var elapsed: Duration = .zero
        var processes = [Process()]
        var ready: [(process: Int, work: Work)] = []
        /// By the number of the timer, which grows.
        var timers: [Int: (process: Int, timer: Timer)] = [:]
        var due = DueQueue()
        var nextTimer = 0
        var steps = 0
        /// Sleeps end at once, and no other time passes.
        var isOver = false
        var thread: pthread_t?
        var strangers = 0
    }

    /// Work that is ready is picked from the oldest so many, so that nothing waits for ever.
    fileprivate static let pickedFrom = 4
    private static let epoch = ContinuousClock.now
    /// 2023-11-14; any date would do.
    private static let date = Timestamp(microseconds: 1_700_000_000_000_000)

    private let state: Mutex<State>

    package init(seed: UInt64) {
        state = Mutex(State(random: SeededRandom(seed: seed)))
    }

    // MARK: Time

    /// Since the simulation began.
    package var elapsed: Duration { state.withLock(\.elapsed) }
    package var now: ContinuousClock.Instant { Self.epoch + elapsed }
    package var today: Timestamp { Self.date.advanced(by: elapsed) }
    /// What has run so far.
    package var steps: Int { state.withLock(\.steps) }
    /// Jobs that another thread has queued: a task of the simulation has left it.
    package var strangers: Int { state.withLock(\.strangers) }
    package var isOver: Bool { state.withLock(\.isOver) }

    /// Runs `call` after a time, as a part of a process.
    package func after(_ delay: Duration, in process: ProcessID, _ call: @escaping @Sendable () -> Void) {
        state.withLock { state in
            guard delay > .zero, !state.isOver else { return state.add(.call(call), to: process.index) }
            state.addTimer(.call(call), at: state.elapsed + delay, process.index)
        }
    }

    /// Throws `CancellationError` when the task is cancelled, unless that is to be ignored, or the simulation is over.
    package func pause(
        for delay: Duration, in process: ProcessID, ignoringCancellation: Bool = false
    ) async throws {
        let id = state.withLock { state in
            state.nextTimer += 1
            return state.nextTimer
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Void, any Error>) in
                let isCancelled = Task.isCancelled && !ignoringCancellation
                let waits = state.withLock { state in
                    guard !state.isOver, !isCancelled else { return false }
                    state.timers[id] = (process.index, .sleeper(continuation))
                    state.due.add(state.elapsed + max(delay, .microseconds(1)), id)
                    return true
                }
                if !waits { continuation.resume(throwing: CancellationError()) }
            }
        } onCancel: {
            guard !ignoringCancellation else { return }
            let timer = state.withLock { $0.timers.removeValue(forKey: id)?.timer }
            if case .sleeper(let continuation)? = timer { continuation.resume(throwing: CancellationError()) }
        }
    }

    // MARK: Processes

    package func addProcess() -> ProcessID {
        state.withLock { state in
            state.processes.append(Process())
            return ProcessID(index: state.processes.count - 1)
        }
    }

    package func executor(of process: ProcessID) -> any TaskExecutor {
        ProcessExecutor(scheduler: self, process: process)
    }

    package func freeze(_ process: ProcessID) {
        state.withLock { state in
            state.processes[process.index].isFrozen = true
            let parked = state.ready.filter { $0.process == process.index }.map(\.work)
            state.ready.removeAll { $0.process == process.index }
            state.processes[process.index].parked += parked
        }
    }

    package func thaw(_ process: ProcessID) {
        state.withLock { state in
            state.processes[process.index].isFrozen = false
            let parked = state.processes[process.index].parked
            state.processes[process.index].parked = []
            state.ready += parked.map { (process.index, $0) }
        }
    }

    fileprivate func add(_ job: UnownedJob, _ executor: ProcessExecutor) {
        state.withLock { state in
            if let thread = state.thread, thread != pthread_self() { state.strangers += 1 }
            state.add(.job(job, executor), to: executor.process.index)
        }
    }

    // MARK: The driving thread

    /// Runs until a moment, and then `isDone` or not; and stops before it when `isDone` says so, which is asked after
    /// each step of the clock.
    package func run(until end: Duration, isDone: () -> Bool) {
        state.withLock { $0.thread = pthread_self() }
        while !isDone() {
            while let work = state.withLock({ $0.pick() }) { perform(work) }
            guard state.withLock({ $0.moveClock(until: end) }) else { return }
        }
    }

    /// Ends every process: thaws it, ends every sleep, and runs what is left. The owner sees to it that the tasks have
    /// been cancelled and that the store refuses everything.
    ///
    /// - Returns: whether nothing was left after `stepsMax` steps.
    package func finish(stepsMax: Int) -> Bool {
        let count = state.withLock { state in
            state.isOver = true
            return state.processes.count
        }
        for index in 0..<count { thaw(ProcessID(index: index)) }
        for _ in 0..<stepsMax {
            if let work = state.withLock({ $0.pick() }) {
                perform(work)
            } else if !state.withLock({ $0.moveClock(until: .seconds(1 << 40)) }) {
                return true
            }
        }
        return false
    }

    private func perform(_ work: Work) {
        switch work {
        case .job(let job, let executor): job.runSynchronously(on: executor.asUnownedTaskExecutor())
        case .call(let call): call()
        }
    }
}

extension SimulationScheduler.State {
    fileprivate mutating func add(_ work: SimulationScheduler.Work, to process: Int) {
        if processes[process].isFrozen {
            processes[process].parked.append(work)
        } else {
            ready.append((process, work))
        }
    }

    fileprivate mutating func addTimer(
        _ timer: SimulationScheduler.Timer, at moment: Duration, _ process: Int
    ) {
        nextTimer += 1
        timers[nextTimer] = (process, timer)
        due.add(moment, nextTimer)
    }

    fileprivate mutating func pick() -> SimulationScheduler.Work? {
        guard !ready.isEmpty else { return nil }
        steps += 1
        let count = min(ready.count, SimulationScheduler.pickedFrom)
        return ready.remove(at: count == 1 ? 0 : Int(random.next() % UInt64(count))).work
    }

    /// Moves the clock to the next timer and makes what is due then ready. False: there is none before `end`.
    fileprivate mutating func moveClock(until end: Duration) -> Bool {
        while let first = due.first, timers[first.id] == nil { due.removeFirst() }
        guard let first = due.first, first.at <= end else {
            if !isOver { elapsed = max(elapsed, end) }
            return false
        }
        if !isOver { elapsed = max(elapsed, first.at) }
        while let next = due.first, next.at <= first.at {
            due.removeFirst()
            guard let (process, timer) = timers.removeValue(forKey: next.id) else { continue }
            switch timer {
            case .call(let call): add(.call(call), to: process)
            case .sleeper(let continuation):
                let isOver = isOver
                add(
                    .call {
                        if isOver {
                            continuation.resume(throwing: CancellationError())
                        } else {
                            continuation.resume()
                        }
                    }, to: process)
            }
        }
        return true
    }
}

/// Queues the jobs of one process.
private final class ProcessExecutor: TaskExecutor {
    let scheduler: SimulationScheduler
    let process: ProcessID

    init(scheduler: SimulationScheduler, process: ProcessID) {
        self.scheduler = scheduler
        self.process = process
    }

    func enqueue(_ job: consuming ExecutorJob) { scheduler.add(UnownedJob(job), self) }
}

/// A binary heap of moments, the earliest first; of those at one moment the oldest.
private struct DueQueue {
    private var heap: [(at: Duration, id: Int)] = []

    var first: (at: Duration, id: Int)? { heap.first }

    mutating func add(_ moment: Duration, _ id: Int) {
        heap.append((moment, id))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child] < heap[parent] else { return }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    mutating func removeFirst() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child] < heap[least] {
                least = child
            }
            guard least != parent else { return }
            heap.swapAt(least, parent)
            parent = least
        }
    }
}
