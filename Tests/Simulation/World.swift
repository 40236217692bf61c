import JobEngine
import JobModel
import ModelStore
import Support
import Synchronization
import TestRandom

/// What a simulation's nodes, clients and faults share: the database, the account of the checker, and what is broken.
final class World: Sendable {
    private struct State {
        var random: SeededRandom
        var checker: Checker
        var trace = Trace()
        var nodes: [Int: SimulatedNode] = [:]
        var outageUntil: Duration = .zero
        /// Until when each process that is cut off cannot reach the database.
        var cutUntil: [Int: Duration] = [:]
        /// When each process that was frozen went on.
        var thawedAt: [Int: Duration] = [:]
        /// Clients' jobs, by number from 0.
        var jobs: [JobID] = []
        var specs: [JobID: JobSpec] = [:]
        /// What a restore brings back: the database, and the account of it.
        var kept: (tables: ModelTables, checker: Checker)?
        var restoredAt: Duration?
        var restores = 0
    }

    let scenario: Scenario
    let scheduler: SimulationScheduler
    let database: ModelDatabase
    let engineDefects: Set<EngineDefect>
    private let state: Mutex<State>

    init(_ scenario: Scenario, defects: Set<ModelDefect>, engineDefects: Set<EngineDefect>) {
        self.scenario = scenario
        self.engineDefects = engineDefects
        let scheduler = SimulationScheduler(seed: scenario.seed &+ 1)
        self.scheduler = scheduler
        let tables = ModelTables(defects: defects, lanesPerClaimMax: scenario.lanesPerClaim)
        database = ModelDatabase(tables) { scheduler.today }
        state = Mutex(
            State(
                random: SeededRandom(seed: scenario.seed &+ 2),
                checker: Checker(defaultUserLimit: scenario.defaultUserLimit)))
    }

    func watchDatabase() {
        database.onCommit { [self] tables, _ in check { $0.committed(tables) } }
    }

    /// May be called while the tables are locked, and must not call the database.
    @discardableResult
    func check<R>(_ body: (inout Checker) -> R) -> R { state.withLock { body(&$0.checker) } }

    var violation: Violation? { state.withLock(\.checker.violation) }
    var traced: Trace { state.withLock(\.trace) }

    func trace(_ what: StaticString, _ process: ProcessID, _ outcome: StaticString, job: JobID? = nil) {
        let elapsed = scheduler.elapsed
        state.withLock { state in
            let index = job.flatMap { state.jobs.firstIndex(of: $0) } ?? -1
            state.trace.add(what, process: process.index, outcome, job: index, at: elapsed)
        }
    }

    // MARK: Random numbers

    func draw(_ range: ClosedRange<Int>) -> Int {
        state.withLock { Int.random(in: range, using: &$0.random) }
    }

    func chance(_ percent: Int) -> Bool { state.withLock { $0.random.chance(percent) } }

    func bits() -> UInt64 { state.withLock { $0.random.next() } }

    var isCalm: Bool { scheduler.elapsed >= scenario.calmAt }

    // MARK: The network

    func plan(for process: ProcessID) -> CallPlan {
        let elapsed = scheduler.elapsed
        let canReach = state.withLock { state in
            elapsed >= max(state.outageUntil, state.cutUntil[process.index] ?? .zero)
        }
        guard canReach else { return CallPlan() }
        var plan = CallPlan(effectAfter: delay(), answerAfter: delay())
        guard elapsed < scenario.calmAt else { return plan }
        if chance(scenario.lostCalls) { plan.effectAfter = nil }
        if chance(scenario.lostAnswers) { plan.answerAfter = nil }
        return plan
    }

    private func delay() -> Duration {
        !isCalm && chance(scenario.slowCalls) ? .milliseconds(draw(5...700)) : .microseconds(draw(50...2000))
    }

    /// Lanes from which another node seems to be claiming just now.
    func heldLanes(for process: ProcessID) -> Set<Int64> {
        guard !isCalm, chance(20) else { return [] }
        return [Int64(draw(1...scenario.users))]
    }

    /// The node hears of what it has committed.
    func publish(_ process: ProcessID, _ changes: [LocalChange]) {
        guard !changes.isEmpty else { return }
        node(process)?.worker.receive(changes)
    }

    func didFinishRuns(_ process: ProcessID) { node(process)?.worker.didFinishRuns() }

    /// The other nodes are notified, unless the notification gets lost.
    func hintPeers(of process: ProcessID, _ changes: [LocalChange]) {
        let hasCancels = changes.contains { if case .cancelRequested = $0 { true } else { false } }
        for peer in living where peer.process != process {
            guard isCalm || !chance(20) else { continue }
            scheduler.after(.microseconds(draw(100...20_000)), in: peer.process) { [weak peer] in
                peer?.worker.wake(hasCancels: hasCancels)
            }
        }
    }

    // MARK: Nodes

    func node(_ process: ProcessID) -> SimulatedNode? { state.withLock { $0.nodes[process.index] } }

    /// In the order in which they were started.
    var living: [SimulatedNode] {
        state.withLock { state in
            state.nodes.sorted { $0.key < $1.key }.map(\.value).filter { !$0.isGone }
        }
    }

    @discardableResult
    func startNode() -> SimulatedNode {
        let node = SimulatedNode(self, process: scheduler.addProcess())
        state.withLock { $0.nodes[node.process.index] = node }
        trace("node", node.process, "starts")
        node.begin()
        return node
    }

    func crash(_ node: SimulatedNode) {
        trace("node", node.process, "crashes")
        node.crash()
        scheduler.freeze(node.process)
        check { $0.crashed(node: node.process.index) }
    }

    func freeze(_ node: SimulatedNode, for duration: Duration) {
        trace("node", node.process, "freezes")
        scheduler.freeze(node.process)
        check { $0.frozen(node: node.process.index) }
        state.withLock { $0.thawedAt[node.process.index] = .seconds(1 << 30) }
        scheduler.after(duration, in: .world) { [self, weak node] in
            guard let node, !node.hasCrashed else { return }
            trace("node", node.process, "goes on")
            state.withLock { $0.thawedAt[node.process.index] = scheduler.elapsed }
            scheduler.thaw(node.process)
        }
    }

    /// Whether a process was frozen less than a lease ago: what it begins now may be somebody else's already.
    func wasFrozen(_ process: ProcessID) -> Bool {
        let elapsed = scheduler.elapsed
        return state.withLock { state in
            state.thawedAt[process.index].map { elapsed - $0 < scenario.lease } ?? false
        }
    }

    func cutOff(_ node: SimulatedNode, for duration: Duration) {
        trace("node", node.process, "is cut off")
        let end = min(scheduler.elapsed + duration, scenario.calmAt)
        state.withLock { $0.cutUntil[node.process.index] = end }
    }

    func beginOutage(for duration: Duration) {
        trace("outage", .world, "begins")
        let end = min(scheduler.elapsed + duration, scenario.calmAt)
        state.withLock { $0.outageUntil = end }
    }

    // MARK: Restores

    /// Keeps what the database has now.
    func keep() {
        trace("database", .world, "is kept")
        let tables = database.read { $0 }
        state.withLock { $0.kept = (tables, $0.checker) }
    }

    /// Brings the database back to what was kept, while the nodes live on.
    func restore() {
        guard let kept = state.withLock(\.kept) else { return }
        trace("database", .world, "is restored")
        database.restore(kept.tables)
        let runs = state.withLock { state in
            state.restoredAt = scheduler.elapsed
            state.restores += 1
            return state.checker.restored(kept.checker)
        }
        scheduler.after(scenario.lease * 4 / 3, in: .world) { [self] in
            guard !scheduler.isOver else { return }
            database.read { tables in check { $0.lostRunsEnd(runs, tables) } }
        }
    }

    /// How often the database was restored so far. An answer from before a restore says nothing about what is there now.
    var restores: Int { state.withLock(\.restores) }

    /// Whether the database was restored less than a lease ago: a node may not know yet what has become of its runs.
    var wasRestored: Bool {
        let elapsed = scheduler.elapsed
        return state.withLock { $0.restoredAt.map { elapsed - $0 < scenario.lease } ?? false }
    }

    // MARK: Clients' jobs

    func addJob(_ id: JobID, _ spec: JobSpec) {
        state.withLock { state in
            if state.specs.updateValue(spec, forKey: id) == nil { state.jobs.append(id) }
        }
    }

    /// In the order in which clients asked first.
    var requests: [(id: JobID, spec: JobSpec)] {
        state.withLock { state in state.jobs.compactMap { id in state.specs[id].map { (id, $0) } } }
    }

    /// One that a client has asked for, whether or not it was acknowledged.
    func anyJob() -> JobID? {
        let jobs = state.withLock(\.jobs)
        return jobs.isEmpty ? nil : jobs[draw(0...(jobs.count - 1))]
    }

    func anyNode() -> SimulatedNode? {
        let living = living
        return living.isEmpty ? nil : living[draw(0...(living.count - 1))]
    }

    /// Ends every node and lets go of it.
    ///
    /// - Returns: whether everything that they had begun came to an end.
    func finish() -> Bool {
        let nodes = state.withLock { state in
            defer { state.nodes = [:] }
            return state.nodes.sorted { $0.key < $1.key }.map(\.value)
        }
        database.onCommit { _, _ in }
        for node in nodes { node.end() }
        let hasEnded = scheduler.finish(stepsMax: 100_000)
        return hasEnded && nodes.allSatisfy(\.hasEnded)
    }
}
