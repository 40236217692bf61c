import JobModel
import Logging
import Synchronization
import Testing

@testable import JobEngine

/// What a claimer does between two claims, and for how long.
@Suite(.timeLimit(.minutes(3))) struct ClaimerTests {
    private enum Step: Sendable, Equatable {
        case claim
        case wait(Duration)
    }

    /// When the claimer is woken, besides at each poll interval.
    private enum Wakes {
        case never
        /// During each claim.
        case always
        /// In the middle of each wait.
        case whileWaiting
    }

    private final class Recorder: Sendable {
        private struct State {
            var steps: [Step] = []
            var elapsed: Duration = .zero
            var pool: RunnerPool?
        }

        private let start = ContinuousClock.now
        private let state = Mutex(State())
        private let countMax: Int
        private let wakes: Wakes

        init(atMost countMax: Int, wakes: Wakes) {
            self.countMax = countMax
            self.wakes = wakes
        }

        var steps: [Step] { state.withLock(\.steps) }

        func follow(_ pool: RunnerPool) { state.withLock { $0.pool = pool } }

        /// The claimer ends with the last step.
        func take(_ step: Step) {
            let pool = state.withLock { state -> RunnerPool? in
                if state.steps.count < countMax { state.steps.append(step) }
                guard state.steps.count == countMax else { return wakes == .always ? state.pool : nil }
                state.pool?.close()
                return state.pool
            }
            pool?.claims.wake()
        }

        var runtime: EngineRuntime {
            EngineRuntime(
                now: { [self] in start + state.withLock(\.elapsed) }, date: { .now },
                sleep: { [self] in try await wait(for: $0) }, random: { 0 }, executor: nil)
        }

        private func wait(for time: Duration) async throws {
            take(.wait(time))
            guard wakes == .whileWaiting, time == ClaimerTests.pollInterval else {
                return state.withLock { $0.elapsed += time }
            }
            let pool = state.withLock { state in
                state.elapsed += time / 2
                return state.pool
            }
            pool?.claims.wake()
            _ = try await ScriptedRunner.forever()
        }
    }

    private static let pollInterval = Duration.seconds(1)

    /// A claim that starts a job; it has left slots free.
    private static func started(hasMore: Bool) -> ClaimResult {
        var result = ClaimResult()
        result.runs = [.sample()]
        result.foundLanes = true
        result.hasMore = hasMore
        return result
    }

    /// - Parameter claims: what the first claims find; the others find nothing.
    private func steps(
        _ count: Int, claims: [ClaimResult] = [], wakes: Wakes = .never
    ) async throws -> [Step] {
        let recorder = Recorder(atMost: count, wakes: wakes)
        let runtime = recorder.runtime
        let store = ScriptedStore(
            claims: claims, onCall: { if $0 == .claim { recorder.take(.claim) } })
        let pools = RunnerPools(defaultUserLimit: 1, runtime: runtime)
        let pool = pools.add([ScriptedRunner { _ in ScriptedRunner.done }], concurrency: 16)
        recorder.follow(pool)
        pools.beginLease(pools.announcement, ["k": 1])
        // What the beginning of the lease has caused.
        await pool.claims.wait(atMost: .seconds(600), on: .system)
        if wakes == .always { pool.claims.wake() }
        await Claimer(
            pool: pool, pools: pools, runs: store.table(of: pools, runtime), store: store,
            runtime: runtime, pollInterval: Self.pollInterval,
            logger: Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }
        ).run()
        return recorder.steps
    }

    /// Nothing else would wake the claimer for the jobs that are left.
    @Test func claimIsFollowedByAnotherWhileThereIsMore() async throws {
        let more = Self.started(hasMore: true)
        let steps = try await steps(7, claims: [more, more, more, Self.started(hasMore: false)])
        let poll = Step.wait(Self.pollInterval)
        #expect(steps == [poll, .claim, .claim, .claim, .claim, poll, .claim])
    }

    @Test func claimThatFindsNothingIsFollowedByOneForEachPollInterval() async throws {
        let poll = Step.wait(Self.pollInterval)
        #expect(try await steps(6) == [poll, .claim, poll, .claim, poll, .claim])
    }

    /// A wake ends the wait, and nothing delays the claim that follows it.
    @Test func claimFollowsAWakeAtOnce() async throws {
        let poll = Step.wait(Self.pollInterval)
        #expect(
            try await steps(6, wakes: .whileWaiting) == [poll, .claim, poll, .claim, poll, .claim])
    }

    /// Each pause is half of 1, 2, … milliseconds, up to 16.
    @Test func claimerThatIsWokenWithoutABreakPausesWhileItFindsNothing() async throws {
        let pauses = [500, 1000, 2000, 4000, 8000, 8000].map { Step.wait(.microseconds($0)) }
        #expect(try await steps(12, wakes: .always) == pauses.flatMap { [Step.claim, $0] })
    }

    /// The pauses are for claims that find nothing.
    @Test func claimerThatIsWokenWithoutABreakDoesNotPauseWhileItFindsJobs() async throws {
        let claims = Array(repeating: Self.started(hasMore: false), count: 5)
        #expect(try await steps(5, claims: claims, wakes: .always) == Array(repeating: .claim, count: 5))
    }
}
