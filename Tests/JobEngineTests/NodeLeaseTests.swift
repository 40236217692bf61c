import JobModel
import Synchronization
import Testing

@testable import JobEngine

@Suite(.timeLimit(.minutes(3))) struct NodeLeaseTests {
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

    /// The lease is 15 seconds. Whatever the renewal waits for, runs are stopped after two thirds of that, and all have
    /// ended one second before the lease does.
    @Test func watchdogStopsRunsInTime() async throws {
        let (at, grace) = try await stopped(renewing: false)
        #expect(at == .milliseconds(10_250) && grace == .milliseconds(3_750))
    }

    @Test func runsGoOnWhileTheLeaseIsRenewed() async throws {
        let (at, grace) = try await stopped(renewing: true)
        #expect(at == nil && grace == .seconds(60))
    }

    // MARK: The order of what a node does

    private struct Step: Sendable, Equatable {
        enum Event: Sendable, Equatable {
            case call(ScriptedStore.Call)
            /// The handler of the run was cancelled.
            case stopped
        }

        let event: Event
        /// A claim would get slots.
        let mayStart: Bool

        static func call(_ call: ScriptedStore.Call, mayStart: Bool) -> Step {
            Step(event: .call(call), mayStart: mayStart)
        }

        static func stopped(mayStart: Bool) -> Step { Step(event: .stopped, mayStart: mayStart) }
    }

    /// The first steps of a node that registers, starts a run, and renews its lease or only watches it. It has a free slot.
    ///
    /// - Parameters:
    ///   - renewals: whether the lease is renewed at the first ones.
    ///   - isStopping: the node began to shut down after the run had started.
    private func steps(
        _ count: Int, renewals: [Bool] = [], renewing: Bool = true, isStopping: Bool = false
    ) async throws -> [Step] {
        let runtime = VirtualClock(atMost: .seconds(3600)).runtime
        let pools = RunnerPools(defaultUserLimit: 1, runtime: runtime)
        let (steps, step) = AsyncStream<Step>.makeStream()
        let held = Mutex<RunnerPool?>(nil)
        let take: @Sendable (Step.Event) -> Void = { event in
            let grant = held.withLock { $0 }.flatMap { pools.beginClaim(for: $0) }
            if let grant { pools.endClaim(grant, ClaimResult()) }
            step.yield(Step(event: event, mayStart: grant != nil))
        }
        let store = ScriptedStore(renewals: renewals, onCall: { take(.call($0)) })
        let runs = store.table(of: pools, runtime)
        let lease = store.lease(of: pools, runtime, runs: runs)
        let (begins, begun) = AsyncStream<Void>.makeStream()
        let runner = ScriptedRunner { _ in
            try await withTaskCancellationHandler {
                begun.yield()
                return try await ScriptedRunner.forever()
            } onCancel: {
                take(.stopped)
            }
        }
        let pool = pools.add([runner], concurrency: 2)
        held.withLock { $0 = pool }
        try await lease.register()
        let grant = try #require(pools.beginClaim(for: pool))
        let run = ClaimedRun.sample()
        runs.start([run], under: grant)
        var claimed = ClaimResult()
        claimed.runs = [run]
        pools.endClaim(grant, claimed)
        for await _ in begins { break }
        if isStopping { pools.stop() }
        let looping = Task { await renewing ? lease.renew() : lease.watch() }
        var taken: [Step] = []
        for await step in steps {
            taken.append(step)
            if taken.count == count { break }
        }
        looping.cancel()
        await looping.value
        runs.stopAll(.leaseLost, grace: .zero)
        return taken
    }

    /// Nothing starts before the store has the node, and a run that is stopped makes no room for another. The node registers
    /// anew when the runs of the old lease are stopped and the others know that it has ended.
    @Test func leaseThatIsRefusedEndsInOrder() async throws {
        let steps = try await steps(6, renewals: [true, false])
        #expect(
            steps == [
                .call(.register, mayStart: false), .call(.renew, mayStart: true),
                .call(.renew, mayStart: true), .stopped(mayStart: false), .call(.endNode, mayStart: false),
                .call(.register, mayStart: false),
            ])
        let again = try await self.steps(6, renewals: [false])
        #expect(again.last == .call(.renew, mayStart: true))
    }

    /// No renewal comes through: the watchdog forbids starts before it stops the runs.
    @Test func leaseThatExpiresEndsInOrder() async throws {
        let steps = try await steps(2, renewing: false)
        #expect(steps == [.call(.register, mayStart: false), .stopped(mayStart: false)])
    }

    /// `shutdown` gives back what runs, and ends the lease afterwards.
    @Test func nodeThatShutsDownDoesNotRegisterAgain() async throws {
        let steps = try await steps(4, renewals: [false], isStopping: true)
        #expect(
            steps == [
                .call(.register, mayStart: false), .call(.renew, mayStart: false),
                .stopped(mayStart: false), .call(.renew, mayStart: false),
            ])
    }

    /// The ends of its runs are written under the lease that is released.
    @Test func shutdownReleasesTheLeaseLast() async throws {
        let calls = Mutex<[ScriptedStore.Call]>([])
        let mayStart = Mutex<[Bool]>([])
        let held = Mutex<WorkerNode?>(nil)
        var claimed = ClaimResult()
        claimed.runs = [.sample()]
        let store = ScriptedStore(
            claims: [claimed],
            onCall: { call in
                guard [.finish, .endNode].contains(call) else { return }
                calls.withLock { $0.append(call) }
                let grant = held.withLock { $0 }?.beginStart(upTo: 1)
                mayStart.withLock { $0.append(grant != nil) }
            })
        let (begins, begun) = AsyncStream<Void>.makeStream()
        let runner = ScriptedRunner { _ in
            begun.yield()
            return try await ScriptedRunner.forever()
        }
        let node = store.node([runner], concurrency: 2)
        held.withLock { $0 = node }
        try await node.register()
        let working = Task { await node.run() }
        for await _ in begins { break }
        await node.shutdown(grace: .zero)
        working.cancel()
        await working.value
        held.withLock { $0 = nil }
        #expect(calls.withLock { $0 } == [.finish, .endNode])
        #expect(mayStart.withLock { $0 } == [false, false])
        guard case .again(.released, _, _, _)? = store.verdicts.first else {
            Issue.record("the run was not given back: \(store.verdicts)")
            return
        }
    }
}
