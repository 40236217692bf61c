import JobEngine
import JobModel
import Logging
import ModelStore
import Support
import Synchronization

/// A server process: the engine with its own clock and its own way to the database.
final class SimulatedNode: Sendable {
    private struct State {
        var task: Task<Void, Never>?
        var hasEnded = false
        /// It has crashed, or shuts down.
        var isGone = false
        var hasCrashed = false
    }

    let process: ProcessID
    let store: SimulatedStore
    let worker: WorkerNode
    private let world: World
    private let executor: any TaskExecutor
    private let state: Mutex<State>
    private let skew: Skew

    init(_ world: World, process: ProcessID) {
        self.world = world
        self.process = process
        let executor = world.scheduler.executor(of: process)
        self.executor = executor
        let store = SimulatedStore(world, process: process)
        self.store = store
        let skew = Skew()
        self.skew = skew
        state = Mutex(State())
        let scheduler = world.scheduler
        let isSlow = world.engineDefects.contains(.slowClock)
        let leavesTheThread = world.engineDefects.contains(.leavesTheThread)
        let started = scheduler.now
        let runtime = EngineRuntime(
            now: {
                let now = scheduler.now
                return isSlow ? started + started.duration(to: now) / 10 : now
            },
            date: { scheduler.today.advanced(by: skew.value) },
            sleep: {
                if leavesTheThread { await Task.detached { await Task.yield() }.value }
                try await scheduler.pause(for: $0, in: process)
            },
            random: { world.bits() }, executor: executor)
        var configuration = WorkerNode.Configuration(
            name: "node-\(process.index)", version: "1", concurrency: world.scenario.slots)
        configuration.defaultUserLimit = world.scenario.defaultUserLimit
        configuration.lease = world.scenario.lease
        configuration.pollInterval = .milliseconds(500)
        configuration.grace = .milliseconds(200)
        worker = WorkerNode(
            store: store, runners: Behaviour.allCases.map { SimulatedRunner($0, world, process) },
            configuration: configuration,
            logger: Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() },
            runtime: runtime, publish: { _ in }, onPeers: { _ in })
    }

    var isGone: Bool { state.withLock(\.isGone) }
    var hasCrashed: Bool { state.withLock(\.hasCrashed) }
    var hasEnded: Bool { state.withLock(\.hasEnded) }

    func begin() {
        let task = Task(executorPreference: executor) { [self] in
            while !Task.isCancelled {
                if (try? await worker.register()) != nil { break }
                try? await world.scheduler.pause(for: .milliseconds(200), in: process)
            }
            if !Task.isCancelled { await worker.run() }
            state.withLock { $0.hasEnded = true }
        }
        state.withLock { $0.task = task }
    }

    func crash() {
        state.withLock { state in
            state.isGone = true
            state.hasCrashed = true
        }
    }

    /// Clients' calls go to other nodes from now on; `completion` is called when the node has said goodbye.
    func shutDown(grace: Duration, completion: @escaping @Sendable () -> Void) {
        state.withLock { $0.isGone = true }
        let (world, process) = (world, process)
        world.scheduler.after(.zero, in: process) { [self] in
            Task(executorPreference: executor) { [self] in
                await worker.shutdown(grace: grace)
                end()
                world.trace("node", process, "has shut down")
                world.scheduler.after(.milliseconds(1), in: .world, completion)
            }
        }
    }

    func stepClock(by step: Duration) { skew.add(step) }

    func end() { state.withLock(\.task)?.cancel() }

    // MARK: Calls of clients

    /// Enqueues a job on behalf of a client, as the server does: it may start at once on this node.
    func enqueue(_ spec: JobSpec, completion: @escaping @Sendable (Bool) -> Void) {
        let job = NewJob(spec: spec, now: world.scheduler.today, by: .settings)
        let isDue = spec.due == .after(.zero)
        let grant = isDue ? worker.beginStart(upTo: 1) : nil
        store.call("enqueue") { store throws(StoreError) in
            try store.enqueue(job, under: grant)
        } completion: { [self] result in
            if case .success(let enqueued) = result, let run = enqueued.run, let grant {
                worker.start([run], under: grant)
            }
            if let grant { worker.endStart(grant) }
            if case .success = result { completion(true) } else { completion(false) }
        }
    }

    func cancel(_ id: JobID) {
        let world = world
        store.call("cancel") { store throws(StoreError) in
            _ = try store.cancel(id, note: "asked to")
            store.database.read { tables in world.check { $0.cancelled(id, tables) } }
        } completion: { _ in
        }
    }

    func retry(_ id: JobID) {
        let world = world
        store.call("retry") { store throws(StoreError) in
            _ = try store.retry(id)
            store.database.read { tables in world.check { $0.retried(id, tables) } }
        } completion: { _ in
        }
    }
}

/// How far a node's time of day is from the world's.
private final class Skew: Sendable {
    private let skew = Mutex<Duration>(.zero)
    var value: Duration { skew.withLock { $0 } }
    func add(_ step: Duration) { skew.withLock { $0 += step } }
}
