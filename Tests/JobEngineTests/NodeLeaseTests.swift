import JobModel
import Synchronization
import Testing

@testable import JobEngine

@Suite(.timeLimit(.minutes(3))) struct NodeLeaseTests {
    /// A clock that each sleep moves on at once, until it has moved by `most`: from there on a sleep ends by cancellation.
    private final class VirtualClock: Sendable {
        private let start = ContinuousClock.now
        private let elapsed = Mutex<Duration>(.zero)
        private let most: Duration
        private let beforeSleep: @Sendable (Duration) -> Void

        init(atMost most: Duration, beforeSleep: @escaping @Sendable (Duration) -> Void) {
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

    private func stopped(renewing: Bool) async throws -> (at: Duration?, grace: Duration) {
        let held = Mutex<ActiveRun?>(nil)
        let stoppedAt = Mutex<Duration?>(nil)
        let (ends, reachedEnd) = AsyncStream<Void>.makeStream()
        let clock = VirtualClock(atMost: .seconds(60)) { elapsed in
            let isStopped = held.withLock { $0 }?.stopReason == .leaseLost
            stoppedAt.withLock { at in if isStopped, at == nil { at = elapsed } }
            if elapsed > .seconds(55) { reachedEnd.yield() }
        }
        let store = ScriptedStore()
        let pools = RunnerPools(defaultUserLimit: 1, runtime: clock.runtime)
        let runs = store.table(of: pools, clock.runtime)
        let lease = store.lease(of: pools, clock.runtime, runs: runs)
        let pool = pools.add(
            [ScriptedRunner { _ in try await ScriptedRunner.forever() }], concurrency: 1)
        try await lease.register()
        pools.announced(pools.announcement, ["k": 1])
        let grant = try #require(pools.beginClaim(for: pool))
        runs.start([.sample()], under: grant)
        held.withLock { $0 = runs.all.first }
        let looping = Task { await renewing ? lease.renew() : lease.watch() }
        for await _ in ends { break }
        looping.cancel()
        await looping.value
        let run = try #require(runs.all.first ?? held.withLock { $0 })
        let (at, grace) = (stoppedAt.withLock { $0 }, run.grace)
        run.stop(.leaseLost, grace: .zero)
        return (at, grace)
    }

    /// The lease is 15 seconds. Whatever the renewal waits for, runs are stopped after two thirds of that, and all have ended
    /// one second before the lease does.
    @Test func watchdogStopsRunsInTime() async throws {
        let (at, grace) = try await stopped(renewing: false)
        #expect(at == .milliseconds(10_250) && grace == .milliseconds(3_750))
    }

    @Test func runsGoOnWhileTheLeaseIsRenewed() async throws {
        let (at, grace) = try await stopped(renewing: true)
        #expect(at == nil && grace == .seconds(60))
    }
}
