import JobEngine
import JobModel
import JobStore
import Support
import Synchronization
import TestDatabase
import Testing

/// Pools of a node on Postgres.
@Suite(.timeLimit(.minutes(2))) struct RunnerPoolTests {
    /// Runs of kind `kind` that wait until the gate is opened; `began` says that one has begun.
    private struct Gate {
        let runner: ScriptedRunner
        let began: AsyncStream<JobID>
        let open: @Sendable () -> Void

        init(_ kind: String) {
            let (gate, opens) = AsyncStream<Void>.makeStream()
            let (began, begins) = AsyncStream<JobID>.makeStream()
            let opened = Task { for await _ in gate {} }
            runner = ScriptedRunner(kind) { run in
                begins.yield(run.jobID)
                await opened.value
                return ScriptedRunner.done
            }
            self.began = began
            open = { opens.finish() }
        }
    }

    private let other = ScriptedRunner("other") { _ in ScriptedRunner.done }

    private func enqueue(_ bench: NodeBench, _ kind: String, user: ExactText = "u") async throws -> JobID {
        try await bench.enqueue {
            $0.kind = kind
            $0.userID = user
        }
    }

    private func finish(_ bench: NodeBench, _ id: JobID) async {
        for await event in bench.events where event.jobID == id && event.type == .succeeded { return }
    }

    /// Returns once the cluster knows what this node handles.
    private func announced(_ bench: NodeBench, _ kinds: Set<String>) async throws {
        while try await bench.store.liveKinds() != kinds {}
    }

    /// A job that was there before the pool, and then those that come.
    @Test func poolThatIsAddedRunsItsKind() async throws {
        try await NodeBench.with(ScriptedRunner { _ in ScriptedRunner.done }) { bench in
            let number = bench.store.nodeNumber
            let early = try await enqueue(bench, "other")
            _ = bench.node.addPool([other], concurrency: 2)
            await finish(bench, early)
            for _ in 0..<3 { await finish(bench, try await enqueue(bench, "other")) }
            await finish(bench, try await enqueue(bench, "k"))
            #expect(
                bench.store.nodeNumber == number && bench.node.handles("k") && bench.node.handles("other"))
            #expect(try await bench.store.nodes().map(\.concurrency) == [6])
        }
    }

    /// Whichever of the two is full, and also for users whose jobs wait.
    @Test(arguments: [true, false]) func fullPoolHoldsUpNoOther(firstIsFull: Bool) async throws {
        let gate = Gate("slow")
        let quick = ScriptedRunner("quick") { _ in ScriptedRunner.done }
        let (first, second) = firstIsFull ? (gate.runner, quick) : (quick, gate.runner)
        try await NodeBench.with(first, configure: { $0.concurrency = 2 }) { bench in
            _ = bench.node.addPool([second], concurrency: 2)
            try await announced(bench, ["slow", "quick"])
            var slow: [JobID] = []
            for index in 0..<5 { slow.append(try await enqueue(bench, "slow", user: ExactText("s\(index)"))) }
            var begun = 0
            for await _ in gate.began {
                begun += 1
                if begun == 2 { break }
            }
            for index in 0..<20 {
                await finish(bench, try await enqueue(bench, "quick", user: ExactText("s\(index % 5)")))
            }
            let states = try await slow.asyncMap { try await bench.job($0)?.state }
            #expect(states.filter { $0 == .running }.count == 2)
            #expect(states.filter { $0 == .pending }.count == 3)
            gate.open()
            for id in slow {
                while try await bench.job(id)?.state != .succeeded {}
            }
        }
    }

    @Test func kindsOfAPoolThatIsRemovedAreClaimedNoMore() async throws {
        let gate = Gate("other")
        try await NodeBench.with(ScriptedRunner { _ in ScriptedRunner.done }) { bench in
            let pool = bench.node.addPool([gate.runner], concurrency: 4)
            let running = try await enqueue(bench, "other")
            for await _ in gate.began { break }
            bench.node.removePool(pool)
            let late = try await enqueue(bench, "other")
            try await announced(bench, ["k"])
            for _ in 0..<5 { await finish(bench, try await enqueue(bench, "k")) }
            // A claim that was under way may have taken it, and has given it back without running it.
            while try await bench.job(late)?.state != .pending {}
            let job = try #require(await bench.job(late))
            #expect(job.attemptsUsed == 0 && job.attempts.allSatisfy { $0.outcome == .released })
            #expect(bench.node.handles("k") && !bench.node.handles("other"))
            // A run that it has goes on.
            #expect(try await bench.job(running)?.state == .running)
            gate.open()
            await finish(bench, running)
            // Another pool takes the kind up.
            _ = bench.node.addPool([other], concurrency: 1)
            await finish(bench, late)
        }
    }

    @Test func poolsAreAnnouncedAgainAfterALostLease() async throws {
        try await NodeBench.with(
            ScriptedRunner { _ in ScriptedRunner.done }, configure: { $0.lease = .seconds(3) }
        ) { bench in
            _ = bench.node.addPool([other], concurrency: 1)
            try await announced(bench, ["k", "other"])
            let number = bench.store.nodeNumber
            try await bench.script("UPDATE node SET ended_at = now()")
            try await announced(bench, ["k", "other"])
            await finish(bench, try await enqueue(bench, "other"))
            #expect(bench.store.nodeNumber != number)
        }
    }

    @Test func nodeWithoutSlotsRunsAPoolThatIsAdded() async throws {
        try await NodeBench.with(other, configure: { $0.concurrency = 0 }) { bench in
            let id = try await enqueue(bench, "other")
            #expect(!bench.node.handles("k") && !bench.node.handles("other"))
            let pool = bench.node.addPool([other], concurrency: 1)
            await finish(bench, id)
            bench.node.removePool(pool)
            try await announced(bench, [])
        }
    }
}

extension Sequence {
    fileprivate func asyncMap<T>(_ body: (Element) async throws -> T) async rethrows -> [T] {
        var mapped: [T] = []
        for element in self { mapped.append(try await body(element)) }
        return mapped
    }
}
