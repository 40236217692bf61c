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
            maxAttempts: spec.maxAttempts, sequence: 2, startedAt: .now, lastLogLine: 0)
    }
}

/// A store without jobs, which answers the ends of runs as its test says and keeps what it is given.
final class ScriptedStore: EngineStore {
    private struct State {
        var outcomes: [Result<FinishResult, StoreError>]
        var announcements: [Result<[String: Int32]?, StoreError>]
        var verdicts: [Verdict] = []
        var updates: [RunUpdate] = []
        var announced: [[String: Interruption]] = []
    }

    private let state: Mutex<State>

    /// - Parameters:
    ///   - outcomes: of the first ends; all others are written.
    ///   - announcements: the answers to the first ones; to the others it answers that the lease has ended.
    init(
        _ outcomes: [Result<FinishResult, StoreError>] = [],
        announcements: [Result<[String: Int32]?, StoreError>] = []
    ) {
        state = Mutex(State(outcomes: outcomes, announcements: announcements))
    }

    var verdicts: [Verdict] { state.withLock(\.verdicts) }
    var updates: [RunUpdate] { state.withLock(\.updates) }
    var announced: [[String: Interruption]] { state.withLock(\.announced) }

    var nodeNumber: Int32 { 1 }

    func finish(
        _ finished: FinishedRun, completion: @escaping @Sendable (Result<FinishResult, StoreError>) -> Void
    ) {
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
    ) async throws(StoreError) -> (node: Int32, kinds: [String: Int32]) { (1, [:]) }

    func announce(
        kinds: [String: Interruption], concurrency: Int
    ) async throws(StoreError) -> [String: Int32]? {
        let answer = state.withLock { state in
            state.announced.append(kinds)
            return state.announcements.isEmpty ? .success(nil) : state.announcements.removeFirst()
        }
        return try answer.get()
    }

    func renew(lease: Duration, known: [Int64], timeout: Duration) async throws(StoreError) -> Renewal {
        Renewal(isAlive: true, cancels: [], strays: [], hasPeers: false)
    }

    func endNode() async throws(StoreError) {}

    func claim(
        _ request: ClaimRequest, nextMayBegin: @escaping @Sendable (ClaimOutlook) -> Void
    ) async throws(StoreError) -> ClaimResult { ClaimResult() }

    func save(checkpoint: [UInt8], of key: JobKey, token: Int64) async throws(StoreError) {}

    func cancelRequests() async throws(StoreError) -> [(token: Int64, reason: String)] { [] }

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
