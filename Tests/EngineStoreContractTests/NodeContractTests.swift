import JobModel
import Support
import Testing

/// Leases, and what becomes of runs whose node has none.
@Suite struct NodeContractTests {
    @Test(arguments: Implementation.allCases)
    func registersUnderANewNumberEachTime(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let first = bench.one.store.nodeNumber
            #expect(first > 0 && bench.cluster.store().nodeNumber == 0)
            let kinds = try await bench.one.store.register(
                ContractBench.description("one", kinds: ["k": .retry, "l": .fail]), lease: .seconds(1000)
            ).kinds
            #expect(Set(kinds.keys) == ["k", "l"] && kinds["k"] == bench.one.kinds.first)
            #expect(bench.one.store.nodeNumber != first)
        }
    }

    @Test(arguments: Implementation.allCases)
    func announcesOtherKindsUnderItsLease(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let store = bench.one.store
            let announced = try #require(
                try await store.announce(kinds: ["k": .retry, "l": .fail], concurrency: 3))
            #expect(announced["k"] == bench.one.kinds.first && announced.count == 2)
            try await store.endNode()
            #expect(try await store.announce(kinds: ["k": .retry], concurrency: 3) == nil)
        }
    }

    @Test(arguments: Implementation.allCases)
    func renewalKeepsTheLease(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation, lease: .seconds(1000)) { bench in
            for _ in 0..<3 {
                try await bench.cluster.pass(.seconds(800))
                let renewal = try await bench.one.renew(lease: .seconds(1000))
                #expect(
                    renewal.isAlive && !renewal.hasPeers && renewal.cancels.isEmpty && renewal.strays.isEmpty)
            }
            let two = try await bench.peer()
            #expect(try await bench.one.renew().hasPeers)
            try await two.store.endNode()
            #expect(try await !bench.one.renew().hasPeers)
        }
    }

    @Test(arguments: Implementation.allCases)
    func leaseThatHasEndedCannotBeRenewed(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation, lease: .seconds(1000)) { bench in
            try await bench.cluster.pass(.seconds(1100))
            // Nobody has noticed it yet.
            #expect(try await !bench.one.renew().isAlive)
            #expect(try await bench.one.store.orphans().runs.isEmpty)
            #expect(try await !bench.one.renew().isAlive)
            // The node comes back under another number.
            _ = try await bench.one.store.register(ContractBench.description("one"), lease: .seconds(1000))
            #expect(try await bench.one.renew().isAlive)
            try await bench.one.store.endNode()
            #expect(try await !bench.one.renew().isAlive)
        }
    }

    @Test(arguments: Implementation.allCases)
    func renewalTellsOfCancelsAndStrays(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let two = try await bench.peer()
            let known = try await bench.start()
            let stray = try await bench.start { $0.userID = "v" }
            try await bench.enqueue { $0.userID = "w" }
            let foreign = try #require(try await two.claim().runs.first)
            try await two.store.requestCancel(known.key.id, note: "why", for: .all)
            try await two.store.requestCancel(foreign.key.id, note: "not here", for: .all)
            let ghost = RunFence(
                number: known.key.number, token: known.token,
                startedAt: known.startedAt.advanced(by: .microseconds(1)))
            let renewal = try await bench.one.renew(known: [known.fence, ghost])
            #expect(renewal.ghosts == [ghost])
            #expect(renewal.cancels.map(\.run) == [known.fence] && renewal.cancels.map(\.note) == ["why"])
            let found = try #require(renewal.strays.first)
            #expect(renewal.strays.count == 1 && found.token == stray.token && found.key == stray.key)
            #expect(found.attempt == 1 && found.spec.userID == "v" && found.spec.payload.isEmpty)
            let cancels = try await bench.one.store.cancelRequests()
            #expect(cancels.map(\.run) == [known.fence] && cancels.map(\.note) == ["why"])
            // The node of the run is told which one, by whom it is asked.
            #expect(two.changes.cancels.map(\.run) == [known.fence, foreign.fence])
            #expect(two.changes.cancels.first?.node == bench.one.store.nodeNumber)
            // A run that is over is no stray.
            try await bench.one.finish(stray, .released)
            #expect(try await bench.one.renew(known: [known.fence]).strays.isEmpty)
        }
    }

    @Test(arguments: Implementation.allCases)
    func runsOfADeadNodeAreTakenBack(_ implementation: Implementation) async throws {
        let kinds: [String: Interruption] = ["k": .retry, "once": .fail]
        try await ContractBench.with(implementation, kinds: kinds, lease: .seconds(100_000)) { bench in
            let two = try await bench.peer(kinds: kinds, lease: .seconds(1000))
            for (kind, user) in [("k", "a"), ("once", "b"), ("k", "c")] {
                try await bench.enqueue {
                    $0.kind = kind
                    $0.userID = ExactText(user)
                    $0.maxAttempts = 7
                }
            }
            let runs = try await two.claim().runs
            #expect(runs.count == 3)
            let cancelled = try #require(runs.first { $0.spec.userID == "c" })
            try await bench.one.store.requestCancel(cancelled.key.id, note: "stop", for: .all)
            #expect(try await bench.one.store.orphans().runs.isEmpty)
            try await bench.cluster.pass(.seconds(1100))
            let orphans = try await bench.one.store.orphans()
            #expect(orphans.runs.count == 3 && orphans.unknown.isEmpty)
            for orphan in orphans.runs {
                let run = try #require(runs.first { $0.token == orphan.run.token })
                #expect(orphan.node == "two" && orphan.run.key == run.key && orphan.run.attempt == 1)
                #expect(orphan.run.spec.maxAttempts == 7)
                #expect(orphan.onInterruption == (run.spec.kind == "once" ? .fail : .retry))
                #expect(orphan.cancelNote == (run.key == cancelled.key ? "stop" : nil))
            }
            let orphan = try #require(orphans.runs.first { $0.run.spec.userID == "a" })
            #expect(try await bench.one.finish(orphan.run, .again(cause: .interrupted)) == .written)
            // The second one to end it has lost: another rescuer, or the run itself.
            #expect(try await bench.one.finish(orphan.run, .again(cause: .interrupted)) == .stale)
            #expect(try await two.finish(orphan.run, .success) == .stale)
            #expect(try await bench.one.store.orphans().runs.count == 2)
            let again = try await bench.claimed(orphan.run.key.id)
            #expect(again.attempt == 2 && again.token > orphan.run.token)
            #expect(
                try await bench.record(again.key.id).attempts.map(\.outcome) == [.interrupted, .running])
        }
    }

    @Test(arguments: Implementation.allCases)
    func runsOfANodeThatSaidGoodbyeAreOrphans(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let two = try await bench.peer()
            let run = try await bench.start()
            try await bench.one.store.endNode()
            #expect(try await two.store.orphans().runs.map(\.run.token) == [run.token])
            // Until it is taken back, the run has its token and may end itself.
            #expect(try await bench.one.finish(run, .success) == .written)
            #expect(try await two.store.orphans().runs.isEmpty)
        }
    }

    @Test(arguments: Implementation.allCases)
    func lastAnnouncedPolicyCounts(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            _ = try await bench.start()
            let two = try await bench.peer(kinds: ["k": .fail])
            try await bench.one.store.endNode()
            #expect(try await two.store.orphans().runs.map(\.onInterruption) == [.fail])
        }
    }

    /// They count until they are taken back.
    @Test(arguments: Implementation.allCases)
    func runsOfADeadNodeCountForTheLimit(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation, lease: .seconds(100_000)) { bench in
            let two = try await bench.peer(lease: .seconds(1000))
            for _ in 0..<2 { try await bench.enqueue() }
            let run = try #require(try await two.claim(1, limit: 1).runs.first)
            try await bench.cluster.pass(.seconds(1100))
            _ = try await bench.one.store.orphans()
            #expect(try await bench.one.claim(limit: 1).runs.isEmpty)
            try await bench.one.finish(run, .success)
            #expect(try await bench.one.claim(limit: 1).runs.count == 1)
        }
    }
}
