import JobModel
import Logging
import Support
import Synchronization

@testable import JobEngine

extension ClaimedRun {
    static func sample(token: Int64 = 1, kind: String = "k") -> ClaimedRun {
        let spec = JobSpec(kind: kind, userID: "u")
        return ClaimedRun(
            key: JobKey(number: token, lane: 1, id: .version7(at: .now)), spec: spec, token: token,
            attempt: 1,
            lastAttempt: spec.maxAttempts, sequence: 2, startedAt: .now, lastLogLine: 0)
    }
}

/// A store without jobs, which answers as its test says and keeps what it is given.
final class ScriptedStore: EngineStore {
    enum Call: Sendable, Hashable {
        case register, renew, endNode, claim, finish
    }

    private struct State {
        var outcomes: [Result<FinishResult, StoreError>]
        var renewals: [Bool]
        var claims: [ClaimResult]
        var announcements: [Result<[String: Int32]?, StoreError>]
        var verdicts: [Verdict] = []
        var updates: [RunUpdate] = []
        var announced: [[String: Interruption]] = []
    }

    private let state: Mutex<State>
    private let onCall: @Sendable (Call) -> Void
    private let onCheckpoint: @Sendable () async -> Void

    /// - Parameters:
    ///   - outcomes: of the first ends; all others are written.
    ///   - announcements: the answers to the first ones; to the others it answers that the lease has ended.
    ///   - renewals: whether the lease is renewed at the first ones; at the others it is.
    ///   - claims: the answers to the first ones; the others find nothing.
    ///   - onCall: called when a call comes, before it has an effect.
    ///   - onCheckpoint: called when a checkpoint comes, which is saved when it returns.
    init(
        _ outcomes: [Result<FinishResult, StoreError>] = [],
        announcements: [Result<[String: Int32]?, StoreError>] = [],
        renewals: [Bool] = [], claims: [ClaimResult] = [],
        onCall: @escaping @Sendable (Call) -> Void = { _ in },
        onCheckpoint: @escaping @Sendable () async -> Void = {}
    ) {
        state = Mutex(
            State(outcomes: outcomes, renewals: renewals, claims: claims, announcements: announcements))
        self.onCall = onCall
        self.onCheckpoint = onCheckpoint
    }

    var verdicts: [Verdict] { state.withLock(\.verdicts) }
    var updates: [RunUpdate] { state.withLock(\.updates) }
    var announced: [[String: Interruption]] { state.withLock(\.announced) }

    var nodeNumber: Int32 { 1 }

    func finish(
        _ finished: FinishedRun, completion: @escaping @Sendable (Result<FinishResult, StoreError>) -> Void
    ) {
        onCall(.finish)
        let outcome = state.withLock { state in
            state.verdicts.append(finished.verdict)
            return state.outcomes.isEmpty ? .success(.written) : state.outcomes.removeFirst()
        }
        completion(outcome)
    }

    func save(_ updates: [RunUpdate]) async throws(StoreError) {
        state.withLock { $0.updates += updates }
    }

    func register(
        _ node: NodeDescription, lease: Duration
    ) async throws(StoreError) -> (node: Int32, kinds: [String: Int32]) {
        onCall(.register)
        let numbers = node.kinds.keys.sorted().enumerated().map { ($1, Int32($0 + 1)) }
        return (1, Dictionary(uniqueKeysWithValues: numbers))
    }

    func announce(
        kinds: [String: Interruption], concurrency: Int
    ) async throws(StoreError) -> [String: Int32]? {
        let answer = state.withLock { state in
            state.announced.append(kinds)
            return state.announcements.isEmpty ? .success(nil) : state.announcements.removeFirst()
        }
        return try answer.get()
    }

    func renew(lease: Duration, known: [RunFence], timeout: Duration) async throws(StoreError) -> Renewal {
        onCall(.renew)
        let isAlive = state.withLock { $0.renewals.isEmpty ? true : $0.renewals.removeFirst() }
        return Renewal(isAlive: isAlive, cancels: [], strays: [], hasPeers: false)
    }

    func endNode() async throws(StoreError) { onCall(.endNode) }

    func claim(
        _ request: ClaimRequest, nextMayBegin: @escaping @Sendable (ClaimOutlook) -> Void
    ) async throws(StoreError) -> ClaimResult {
        onCall(.claim)
        return state.withLock { $0.claims.isEmpty ? ClaimResult() : $0.claims.removeFirst() }
    }

    func save(checkpoint: [UInt8], of run: RunFence) async throws(StoreError) {
        await onCheckpoint()
    }

    func cancelRequests() async throws(StoreError) -> [(run: RunFence, note: String)] { [] }

    func orphans() async throws(StoreError) -> (runs: [OrphanedRun], unknown: [UnknownPolicy]) { ([], []) }

    func promoteDue() async throws(StoreError) -> (promoted: Int, next: Duration?) { (0, nil) }

    func removeFinished(
        olderThan retention: Duration, atMost countMax: Int
    ) async throws(StoreError) -> Int { 0 }

    func trimChanges() async throws(StoreError) {}

    func trimAudit(olderThan retention: Duration, atMost countMax: Int) async throws(StoreError) -> Int { 0 }
}

extension ScriptedStore {
    private static let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

    func context(_ runtime: EngineRuntime = .system) -> RunContext {
        RunContext(
            store: self, runtime: runtime, node: "one", grace: .seconds(60), logger: Self.quiet,
            publish: { _ in })
    }

    func table(of pools: RunnerPools, _ runtime: EngineRuntime = .system) -> RunTable {
        RunTable(context: context(runtime), pools: pools)
    }

    func lease(of pools: RunnerPools, _ runtime: EngineRuntime, runs: RunTable? = nil) -> NodeLease {
        NodeLease(
            WorkerNode.Configuration(name: "one", version: "1", concurrency: 1), store: self,
            runtime: runtime, pools: pools, runs: runs ?? table(of: pools, runtime), logger: Self.quiet,
            onPeers: { _ in })
    }
}

extension ScriptedStore {
    func node(_ runners: [any JobRunner], concurrency: Int) -> WorkerNode {
        WorkerNode(
            store: self, runners: runners,
            configuration: WorkerNode.Configuration(name: "one", version: "1", concurrency: concurrency),
            logger: Self.quiet, runtime: .system, publish: { _ in }, onPeers: { _ in })
    }
}

/// A clock that each sleep moves on at once, until it has moved by `most`: from there on a sleep ends by cancellation.
final class VirtualClock: Sendable {
    private let start = ContinuousClock.now
    private let elapsed = Mutex<Duration>(.zero)
    private let most: Duration
    private let beforeSleep: @Sendable (Duration) -> Void

    /// - Parameter beforeSleep: called with the time that has passed.
    init(atMost most: Duration, beforeSleep: @escaping @Sendable (Duration) -> Void = { _ in }) {
        self.most = most
        self.beforeSleep = beforeSleep
    }

    var runtime: EngineRuntime {
        EngineRuntime(
            now: { [self] in start + elapsed.withLock { $0 } }, date: { .now },
            sleep: { [self] time in
                beforeSleep(elapsed.withLock { $0 })
                let isOver = elapsed.withLock { elapsed in
                    elapsed += time
                    return elapsed > most
                }
                if isOver { _ = try await ScriptedRunner.forever() }
            }, random: { 0 }, executor: nil)
    }
}

/// How long the engine has slept, each time at once.
final class Naps: Sendable {
    private let naps = Mutex<[Duration]>([])
    private let onNap: @Sendable () -> Void

    init(onNap: @escaping @Sendable () -> Void = {}) {
        self.onNap = onNap
    }

    var all: [Duration] { naps.withLock { $0 } }

    /// The system's runtime, whose random numbers are 0 and whose sleeps are over at once.
    var runtime: EngineRuntime {
        EngineRuntime(
            now: { .now }, date: { .now },
            sleep: { [self] time in
                naps.withLock { $0.append(time) }
                onNap()
            },
            random: { 0 }, executor: nil)
    }
}
