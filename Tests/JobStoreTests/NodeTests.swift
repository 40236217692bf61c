import JobModel
import JobStore
import Support
import Testing

@Suite struct NodeTests {
    private func expire(_ bench: Bench, _ store: JobStore) async throws {
        try await bench.script(
            "UPDATE node SET lease_until = now() - interval '1 second' WHERE id = \(store.nodeNumber)")
    }

    @Test func registersAndRenews() async throws {
        try await Bench.with(kinds: ["a": .retry, "b": .fail]) { bench in
            #expect(bench.store.nodeNumber > 0 && bench.kinds.count == 2)
            var renewal = try await bench.store.renew(lease: .seconds(30), known: [], timeout: .seconds(5))
            #expect(renewal.isAlive && !renewal.hasPeers && renewal.cancels.isEmpty)
            #expect(
                try await bench.texts("SELECT on_interruption FROM kind ORDER BY name") == ["retry", "fail"])
            let peer = try await bench.peer()
            #expect(peer.nodeNumber != bench.store.nodeNumber)
            renewal = try await bench.store.renew(lease: .seconds(30), known: [], timeout: .seconds(5))
            #expect(renewal.hasPeers)
            #expect(try await bench.store.liveKinds() == ["a", "b", "k"])
            try await peer.endNode()
            #expect(try await !peer.renew(lease: .seconds(30), known: [], timeout: .seconds(5)).isAlive)
            #expect(
                try await !bench.store.renew(lease: .seconds(30), known: [], timeout: .seconds(5)).hasPeers)
            #expect(try await bench.store.liveKinds() == ["a", "b"])
        }
    }

    @Test func announcesOtherKindsUnderItsLease() async throws {
        try await Bench.with(kinds: ["a": .retry, "b": .retry]) { bench in
            let number = bench.store.nodeNumber
            let kinds = try #require(
                try await bench.store.announce(kinds: ["b": .fail, "c": .retry], concurrency: 7))
            #expect(kinds.keys.sorted() == ["b", "c"])
            #expect(
                try await bench.texts("SELECT name FROM kind WHERE id IN (\(kinds["b"]!), \(kinds["c"]!))")
                    .sorted() == ["b", "c"])
            let node = try #require(try await bench.store.nodes().first)
            #expect(node.kinds.sorted() == ["b", "c"] && node.concurrency == 7)
            #expect(bench.store.nodeNumber == number)
            #expect(try await bench.texts("SELECT on_interruption FROM kind WHERE name = 'b'") == ["fail"])
            try await expire(bench, bench.store)
            #expect(try await bench.store.announce(kinds: ["b": .retry], concurrency: 1) == nil)
            #expect(try await bench.store.liveKinds().isEmpty)
            // Neither was the policy of its kinds touched.
            #expect(try await bench.texts("SELECT on_interruption FROM kind WHERE name = 'b'") == ["fail"])
        }
    }

    @Test func listsNodesWithWhatTheyRun() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            _ = try await bench.enqueue()
            let run = try #require(try await bench.claim(by: peer).first)
            try await expire(bench, bench.store)
            let nodes = try await bench.store.nodes()
            #expect(nodes.map(\.name) == ["two", "one"])
            #expect(nodes.map(\.isAlive) == [true, false])
            #expect(nodes.map(\.running) == [1, 0])
            #expect(nodes[0].runningJobs == [run.key.id] && nodes[0].kinds == ["k"])
            #expect(nodes[0].concurrency == 10 && nodes[0].version == "1")
        }
    }

    @Test func deadNodeCannotRenew() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            // Over, though nobody has noticed yet.
            try await expire(bench, peer)
            #expect(try await !peer.renew(lease: .seconds(600), known: [], timeout: .seconds(5)).isAlive)
            #expect(try await bench.store.orphans().runs.isEmpty)
            #expect(try await bench.count("node WHERE ended_at IS NOT NULL") == 1)
            #expect(try await !peer.renew(lease: .seconds(600), known: [], timeout: .seconds(5)).isAlive)
            // It comes back as another one.
            let number = peer.nodeNumber
            _ = try await peer.register(Bench.description("two"), lease: .seconds(600))
            #expect(peer.nodeNumber != number)
            #expect(try await peer.renew(lease: .seconds(600), known: [], timeout: .seconds(5)).isAlive)
        }
    }

    @Test func runsOfADeadNodeAreTakenBack() async throws {
        try await Bench.with(kinds: ["k": .retry, "once": .fail]) { bench in
            let peer = try await bench.peer()
            for (kind, user) in [("k", "a"), ("once", "b"), ("k", "c")] {
                _ = try await bench.enqueue(
                    JobSpec(kind: kind, userID: ExactText(user), maxAttempts: 7, timeout: .seconds(3)))
            }
            let runs = try await bench.claim(by: peer)
            #expect(runs.count == 3)
            let cancelled = try #require(runs.first { $0.spec.userID == "c" })
            _ = try await bench.store.cancel(cancelled.key.id, note: "stop")
            #expect(try await bench.store.orphans().runs.isEmpty)
            try await expire(bench, peer)
            let orphans = try await bench.store.orphans().runs
            #expect(orphans.count == 3)
            for orphan in orphans {
                let run = try #require(runs.first { $0.token == orphan.run.token })
                #expect(orphan.node == "two" && orphan.run.key == run.key)
                #expect(orphan.run.attempt == 1 && orphan.run.spec.maxAttempts == 7)
                #expect(orphan.onInterruption == (run.spec.kind == "once" ? .fail : .retry))
                #expect(orphan.cancelNote == (run.key == cancelled.key ? "stop" : nil))
            }
            let orphan = try #require(orphans.first { $0.run.spec.userID == "a" })
            #expect(try await bench.finish(orphan.run, .again(cause: .interrupted)) == .written)
            // Whoever is second has lost: another rescuer, or the run itself.
            #expect(try await bench.finish(orphan.run, .again(cause: .interrupted)) == .stale)
            #expect(try await bench.finish(orphan.run, .success, by: peer) == .stale)
            #expect(try await bench.store.orphans().runs.count == 2)
            let again = try #require(try await bench.claim().first)
            #expect(again.key == orphan.run.key && again.attempt == 2 && again.token > orphan.run.token)
        }
    }

    /// The limit counts a dead node's runs until they are taken back.
    @Test func runsOfADeadNodeStillCount() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            for _ in 0..<2 { _ = try await bench.enqueue() }
            let run = try #require(try await bench.claim(1, limit: 1, by: peer).first)
            try await expire(bench, peer)
            _ = try await bench.store.orphans()
            #expect(try await bench.claim(limit: 1).isEmpty)
            try await bench.finish(run, .success)
            #expect(try await bench.claim(limit: 1).count == 1)
        }
    }
}
