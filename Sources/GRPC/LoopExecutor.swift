internal import NIOCore
internal import Synchronization

/// Runs tasks on an event loop, one executor for each loop.
///
/// Jobs enqueued on the loop's own thread wait in a plain queue and run in the same tick. Jobs and replies from other
/// threads are coalesced: one wake-up serves all that arrive before the loop handles them. After a round of jobs every
/// connection that has something to send is flushed once.
final class LoopExecutor: TaskExecutor {
    let eventLoop: any EventLoop

    /// Flushed once after the jobs that may have added to it.
    protocol Flushable: AnyObject {
        func flushNow()
    }

    /// State that is used on the loop only.
    private final class Local {
        var jobs = CircularBuffer<UnownedJob>()
        var flushables: [any Flushable] = []
        /// A round is running, or scheduled on the loop.
        var isScheduled = false
    }

    private enum Item {
        case job(UnownedJob)
        /// The call's source has more, or its exchange is ready for requests.
        case wake(NIOLoopBound<ServerCall>)
        case reply(NIOLoopBound<ServerCall>, @Sendable () throws -> ByteBuffer)
    }

    private struct Remote {
        var items: [Item] = []
        var isScheduled = false
    }

    private let local: NIOLoopBoundBox<Local>
    private let remote = Mutex(Remote())
    /// A handler that yields for ever must not starve the loop's sockets.
    private static let jobsPerRoundMax = 10_000

    init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        self.local = NIOLoopBoundBox.makeBoxSendingValue(Local(), eventLoop: eventLoop)
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if eventLoop.inEventLoop {
            let local = local.value
            local.jobs.append(job)
            schedule(local)
        } else {
            add(.job(job))
        }
    }

    func wake(_ call: NIOLoopBound<ServerCall>) { add(.wake(call)) }

    func reply(to call: NIOLoopBound<ServerCall>, _ answer: @escaping @Sendable () throws -> ByteBuffer) {
        add(.reply(call, answer))
    }

    private func add(_ item: Item) {
        let mustWake = remote.withLock { remote in
            remote.items.append(item)
            defer { remote.isScheduled = true }
            return !remote.isScheduled
        }
        if mustWake { eventLoop.execute { self.takeRemoteItems() } }
    }

    /// Flushes after the jobs of this round. To be called on the loop.
    func flushLater(_ flushable: any Flushable) {
        let local = local.value
        local.flushables.append(flushable)
        schedule(local)
    }

    /// Runs waiting jobs now rather than in the loop's next tick. To be called on the loop.
    func runPending() {
        let local = local.value
        guard !local.jobs.isEmpty else { return }
        runRound(local)
    }

    private func takeRemoteItems() {
        let items = remote.withLock { remote in
            defer { remote = Remote() }
            return remote.items
        }
        let local = local.value
        // The next round flushes the bytes that they have queued.
        let wasScheduled = local.isScheduled
        local.isScheduled = true
        for item in items {
            switch item {
            case .job(let job): local.jobs.append(job)
            case .wake(let call): call.value.woken()
            case .reply(let call, let answer): call.value.replied(answer)
            }
        }
        local.isScheduled = wasScheduled
        runRound(local)
    }

    private func schedule(_ local: Local) {
        guard !local.isScheduled else { return }
        local.isScheduled = true
        eventLoop.execute {
            let local = self.local.value
            local.isScheduled = false
            self.runRound(local)
        }
    }

    private func runRound(_ local: Local) {
        let wasScheduled = local.isScheduled
        local.isScheduled = true
        var left = Self.jobsPerRoundMax
        while left > 0, let job = local.jobs.popFirst() {
            job.runSynchronously(on: asUnownedTaskExecutor())
            left -= 1
        }
        let flushables = local.flushables
        local.flushables = []
        for flushable in flushables {
            flushable.flushNow()
        }
        local.isScheduled = wasScheduled
        if !local.jobs.isEmpty || !local.flushables.isEmpty {
            schedule(local)
        }
    }
}
