import JobModel
import ModelStore
import Support
import Synchronization

/// Bugs of what surrounds the engine, planted in the way between a node and the database.
package enum EngineDefect: String, Sendable, Hashable, CaseIterable {
    /// A node hears that its lease was renewed when the renewal did not arrive, or was refused.
    case renewalAlwaysSucceeds
    /// A node does not hear that the database has lost a run of its own.
    case ghostsAreIgnored
    /// The clocks of the nodes go at a tenth of their speed, so that their watchdogs come too late.
    case slowClock
    /// A node hears that the end of its run was written when it was not.
    case endsAreNotWritten
    /// Every end of a run is written as a success.
    case successIsInvented
    /// A task of a node waits for something that another thread does.
    case leavesTheThread
}

/// What happens to one call on its way to the database and back.
struct CallPlan {
    /// Nil: the call does not arrive.
    var effectAfter: Duration?
    /// From the effect on. Nil: the answer does not arrive.
    var answerAfter: Duration?
}

/// One node's way to the database: calls take effect after a delay, as a part of the world, and are answered after
/// another delay, as a part of the node; calls and answers get lost. A caller learns of what got lost at its timeout.
final class SimulatedStore: EngineStore {
    /// What a call of the engine waits, but for the renewal, which says so itself.
    static let timeout: Duration = .seconds(1)

    private let world: World
    private let process: ProcessID
    private let number = Mutex<Int32>(0)

    init(_ world: World, process: ProcessID) {
        self.world = world
        self.process = process
    }

    var nodeNumber: Int32 { number.withLock { $0 } }

    /// Makes a call. `completion` is called in the node's process, after the node has heard of what its call committed.
    ///
    /// - Parameters:
    ///   - effect: is given this node's way to the model, with the number that the node has now.
    ///   - notify: called in the node's process before the answer is on its way.
    func call<Answer: Sendable>(
        _ name: StaticString, timeout: Duration = SimulatedStore.timeout,
        notify: (@Sendable () -> Void)? = nil,
        _ effect: @escaping @Sendable (ModelStore) throws(StoreError) -> Answer,
        completion: @escaping @Sendable (Result<Answer, StoreError>) -> Void
    ) {
        let scheduler = world.scheduler
        let (world, process) = (world, process)
        let plan = world.plan(for: process)
        let sent = scheduler.elapsed
        let lost = StoreError.unavailable("\(name) was not answered")
        func failAtTimeout() {
            scheduler.after(timeout - (scheduler.elapsed - sent), in: process) { completion(.failure(lost)) }
        }
        guard let effectAfter = plan.effectAfter, effectAfter < timeout else {
            world.trace(name, process, "lost")
            return failAtTimeout()
        }
        let handle = ModelStore(world.database, node: nodeNumber)
        let changes = ChangeList()
        handle.observe { changes.add($0) }
        scheduler.after(effectAfter, in: .world) {
            guard !scheduler.isOver else {
                return scheduler.after(.zero, in: process) { completion(.failure(lost)) }
            }
            let answer = Result { () throws(StoreError) in try effect(handle) }
            let published = changes.all
            if !published.isEmpty { world.hintPeers(of: process, published) }
            let left = timeout - (scheduler.elapsed - sent)
            guard let answerAfter = plan.answerAfter, answerAfter < left else {
                world.trace(name, process, "answer lost")
                if let notify { scheduler.after(.zero, in: process, notify) }
                return scheduler.after(left, in: process) { completion(.failure(lost)) }
            }
            world.trace(name, process, Self.word(answer))
            scheduler.after(.zero, in: process) {
                notify?()
                scheduler.after(answerAfter, in: process) {
                    world.publish(process, published)
                    completion(answer)
                }
            }
        }
    }

    private static func word<Answer>(_ answer: Result<Answer, StoreError>) -> StaticString {
        switch answer {
        case .success: "done"
        case .failure: "refused"
        }
    }

    private func call<Answer: Sendable>(
        _ name: StaticString, timeout: Duration = SimulatedStore.timeout,
        notify: (@Sendable () -> Void)? = nil,
        _ effect: @escaping @Sendable (ModelStore) throws(StoreError) -> Answer
    ) async throws(StoreError) -> Answer {
        let result = await withCheckedContinuation { continuation in
            call(name, timeout: timeout, notify: notify, effect) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    // MARK: The node and its lease

    func register(
        _ node: NodeDescription, lease: Duration
    ) async throws(StoreError) -> (node: Int32, kinds: [String: Int32]) {
        let registered = try await call("register") { store throws(StoreError) in
            try store.register(node, lease: lease)
        }
        number.withLock { $0 = registered.node }
        return registered
    }

    func announce(
        kinds: [String: Interruption], concurrency: Int
    ) async throws(StoreError) -> [String: Int32]? {
        try await call("announce") { store throws(StoreError) in
            try store.announce(kinds: kinds, concurrency: concurrency)
        }
    }

    func renew(lease: Duration, known: [RunFence], timeout: Duration) async throws(StoreError) -> Renewal {
        let world = world
        do throws(StoreError) {
            var renewal = try await call("renew", timeout: timeout) { store throws(StoreError) in
                let node = store.database.read { $0.node(store.nodeNumber) }
                let renewal = try store.renew(lease: lease, known: known, timeout: timeout)
                world.check { $0.renewed(node, isAlive: renewal.isAlive, at: store.database.now) }
                return renewal
            }
            if world.engineDefects.contains(.renewalAlwaysSucceeds) { renewal.isAlive = true }
            if world.engineDefects.contains(.ghostsAreIgnored) { renewal.ghosts = [] }
            return renewal
        } catch {
            guard world.engineDefects.contains(.renewalAlwaysSucceeds) else { throw error }
            return Renewal(isAlive: true, cancels: [], strays: [], hasPeers: false)
        }
    }

    func endNode() async throws(StoreError) {
        try await call("endNode") { store throws(StoreError) in try store.endNode() }
    }

    // MARK: Runs

    func claim(
        _ request: ClaimRequest, nextMayBegin: @escaping @Sendable (ClaimOutlook) -> Void
    ) async throws(StoreError) -> ClaimResult {
        let world = world
        let held = world.heldLanes(for: process)
        let box = OutlookBox()
        return try await call(
            "claim", notify: { if let outlook = box.take() { nextMayBegin(outlook) } }
        ) { store throws(StoreError) in
            try store.claim(request, isHeld: { held.contains($0) }) { box.put($0) }
        }
    }

    func finish(
        _ finished: FinishedRun, completion: @escaping @Sendable (Result<FinishResult, StoreError>) -> Void
    ) {
        let (world, process) = (world, process)
        guard !world.scheduler.isOver else {
            // What is left of the simulation ends: nothing is tried again.
            return world.scheduler.after(.zero, in: process) { completion(.success(.stale)) }
        }
        if world.engineDefects.contains(.endsAreNotWritten), finished.run.token.isMultiple(of: 4) {
            return world.scheduler.after(.milliseconds(1), in: process) { completion(.success(.written)) }
        }
        var finished = finished
        if world.engineDefects.contains(.successIsInvented) {
            finished.verdict = .final(.succeeded, nil, JobResult(data: [], contentType: "x/y"))
        }
        call("finish") { [finished] store throws(StoreError) in
            let before = store.database.read { tables in
                tables.jobs.first { $0.number == finished.key.number }?.fence
            }
            let outcome = try store.finish(inOneCommit: [finished])[0]
            if outcome == .written {
                world.check { $0.written("the end of a run", finished.fence, before) }
            }
            return outcome
        } completion: { result in
            completion(world.scheduler.isOver ? .success(.stale) : result)
            world.didFinishRuns(process)
        }
    }

    func save(_ updates: [RunUpdate]) async throws(StoreError) {
        try await call("save") { store throws(StoreError) in try store.save(updates) }
    }

    func save(checkpoint: [UInt8], of run: RunFence) async throws(StoreError) {
        let world = world
        guard !world.scheduler.isOver else { throw .stale }
        try await call("checkpoint") { store throws(StoreError) in
            let job = store.database.read { $0.jobs.first { $0.number == run.number } }
            try store.save(checkpoint: checkpoint, of: run)
            guard let job else { return }
            world.check {
                $0.written("a checkpoint", run, job.fence)
                $0.saved(checkpoint, of: job.id)
            }
        }
    }

    func cancelRequests() async throws(StoreError) -> [(run: RunFence, note: String)] {
        try await call("cancelRequests") { store throws(StoreError) in try store.cancelRequests() }
    }

    // MARK: Chores of the cluster

    func orphans() async throws(StoreError) -> (runs: [OrphanedRun], unknown: [UnknownPolicy]) {
        let world = world
        return try await call("orphans") { store throws(StoreError) in
            let orphans = try store.orphans()
            store.database.read { tables in
                world.check { $0.takenBack(orphans.runs, tables, at: world.scheduler.today) }
            }
            return orphans
        }
    }

    func promoteDue() async throws(StoreError) -> (promoted: Int, next: Duration?) {
        try await call("promoteDue") { store throws(StoreError) in try store.promoteDue() }
    }

    func removeFinished(olderThan retention: Duration, atMost countMax: Int) async throws(StoreError) -> Int {
        try await call("removeFinished") { store throws(StoreError) in
            try store.removeFinished(olderThan: retention, atMost: countMax)
        }
    }

    func trimChanges() async throws(StoreError) {
        try await call("trimChanges") { store throws(StoreError) in try store.trimChanges() }
    }

    func trimAudit(olderThan retention: Duration, atMost countMax: Int) async throws(StoreError) -> Int {
        try await call("trimAudit") { store throws(StoreError) in
            try store.trimAudit(olderThan: retention, atMost: countMax)
        }
    }
}

/// The changes of one call.
final class ChangeList: Sendable {
    private let changes = Mutex<[LocalChange]>([])
    var all: [LocalChange] { changes.withLock { $0 } }
    func add(_ new: [LocalChange]) { changes.withLock { $0 += new } }
}

/// What a claim says of the next one, until its node hears it.
private final class OutlookBox: Sendable {
    private let outlook = Mutex<ClaimOutlook?>(nil)
    func put(_ new: ClaimOutlook) { outlook.withLock { $0 = new } }
    func take() -> ClaimOutlook? { outlook.withLock { $0.take() } }
}
