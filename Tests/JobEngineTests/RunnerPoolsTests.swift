import JobModel
import Synchronization
import Testing

@testable import JobEngine

@Suite(.timeLimit(.minutes(3))) struct RunnerPoolsTests {
    private let pools = RunnerPools(defaultUserLimit: 1, runtime: .system)

    private func runner(_ kind: String, _ onInterruption: Interruption = .retry) -> ScriptedRunner {
        ScriptedRunner(kind, onInterruption: onInterruption) { _ in ScriptedRunner.done }
    }

    // MARK: Announcements

    @Test func poolThatIsAddedIsAnnounced() throws {
        let first = pools.add([runner("a")], concurrency: 1)
        pools.beginLease(pools.announcement, ["a": 1])
        #expect(pools.dueAnnouncement == nil)
        let second = pools.add([runner("b", .fail)], concurrency: 2)
        let due = try #require(pools.dueAnnouncement)
        #expect(due.kinds == ["a": .retry, "b": .fail] && due.concurrency == 3)
        #expect(pools.beginClaim(for: second) == nil)
        pools.announced(due, ["a": 1, "b": 2])
        #expect(pools.dueAnnouncement == nil)
        #expect(pools.beginClaim(for: second)?.kinds == [2])
        #expect(pools.beginClaim(for: first)?.kinds == [1])
    }

    @Test func poolThatIsRemovedIsAnnouncedNoMore() throws {
        _ = pools.add([runner("a")], concurrency: 1)
        let second = pools.add([runner("b")], concurrency: 2)
        pools.beginLease(pools.announcement, ["a": 1, "b": 2])
        pools.remove(second)
        let due = try #require(pools.dueAnnouncement)
        #expect(due.kinds == ["a": .retry] && due.concurrency == 1)
        #expect(pools.beginClaim(for: second) == nil)
    }

    /// It came while the node was registering.
    @Test func poolThatARegistrationLeftOutIsAnnounced() {
        let announcement = pools.announcement
        let pool = pools.add([runner("a")], concurrency: 1)
        pools.beginLease(announcement, [:])
        #expect(pools.dueAnnouncement?.kinds == ["a": .retry])
        #expect(pools.beginClaim(for: pool) == nil)
    }

    /// The row that it went to is no longer this node's.
    @Test func announcementUnderAnEarlierLeaseDoesNotCount() throws {
        let registered = pools.announcement
        pools.beginLease(registered, [:])
        let pool = pools.add([runner("a")], concurrency: 1)
        let late = try #require(pools.dueAnnouncement)
        pools.loseLease()
        pools.beginLease(registered, [:])
        pools.announced(late, ["a": 1])
        #expect(pools.beginClaim(for: pool) == nil)
        pools.announced(try #require(pools.dueAnnouncement), ["a": 1])
        #expect(pools.beginClaim(for: pool) != nil)
    }

    /// Two pools may handle a kind. Its policy is that of the older pool, also when the other one goes.
    @Test func kindOfTwoPools() {
        let older = pools.add([runner("a", .fail)], concurrency: 1)
        let newer = pools.add([runner("a", .retry)], concurrency: 1)
        #expect(pools.announcement.kinds == ["a": .fail])
        pools.remove(older)
        #expect(pools.announcement.kinds == ["a": .retry])
        pools.remove(newer)
        #expect(pools.announcement.kinds.isEmpty && pools.announcement.concurrency == 0)
    }

    /// At once, and whether or not the node has announced it.
    @Test func kindsAreThoseOfTheOpenPools() {
        #expect(!pools.handles("a"))
        let first = pools.add([runner("a"), runner("b")], concurrency: 1)
        let second = pools.add([runner("b")], concurrency: 1)
        #expect(pools.handles("a") && pools.handles("b") && !pools.handles("c"))
        pools.remove(first)
        #expect(!pools.handles("a") && pools.handles("b"))
        pools.remove(second)
        #expect(!pools.handles("b"))
    }

    /// As long as the store is away, and no longer.
    @Test func announcementIsTriedUntilItSucceeds() async throws {
        let store = ScriptedStore(announcements: [
            .failure(.unavailable("away")), .failure(.overloaded), .success(["a": 1]),
        ])
        let naps = Naps()
        let pools = RunnerPools(defaultUserLimit: 1, runtime: naps.runtime)
        let lease = store.lease(of: pools, naps.runtime)
        try await lease.register()
        let pool = pools.add([runner("a")], concurrency: 1)
        let announcing = Task { await lease.announce() }
        // Woken once the kinds are set, and before by the addition.
        while pools.beginClaim(for: pool) == nil {
            await pool.claims.wait(atMost: .seconds(60), on: .system)
        }
        announcing.cancel()
        await announcing.value
        #expect(store.announced == Array(repeating: ["a": .retry], count: 3))
        let backoffs = naps.all.filter { $0 >= .milliseconds(500) && $0 <= .seconds(2) }
        #expect(backoffs.count == 2 && backoffs[0] <= .seconds(1) && backoffs[1] >= .seconds(1))
    }

    // MARK: Runs

    /// The grant holds a slot in both.
    @Test func runStartsInThePoolOfItsKind() async throws {
        let store = ScriptedStore()
        let runs = store.table(of: pools)
        let ran = Mutex<[String]>([])
        let (ends, ended) = AsyncStream<Void>.makeStream()
        let added = ["a", "b"].map { kind in
            let runner = ScriptedRunner(kind) { _ in
                ran.withLock { $0.append(kind) }
                ended.yield()
                return ScriptedRunner.done
            }
            return pools.add([runner], concurrency: 1)
        }
        pools.beginLease(pools.announcement, ["a": 1, "b": 2])
        for pool in added {
            let grant = try #require(pools.beginClaim(for: pool))
            pools.endClaim(grant, ClaimResult())
        }
        for kind in ["b", "a", "b"] {
            while true {
                guard let grant = pools.beginStart(upTo: 1), grant.kinds == [1, 2] else {
                    // The run before is not over yet.
                    await Task.yield()
                    continue
                }
                runs.start([.sample(kind: kind)], under: grant)
                pools.endStart(grant)
                break
            }
            for await _ in ends { break }
        }
        #expect(ran.withLock { $0 } == ["b", "a", "b"])
    }

    /// The job was cancelled while its claim was on the way.
    @Test func stopThatComesBeforeItsRun() async throws {
        let store = ScriptedStore()
        let runs = store.table(of: pools)
        let pool = pools.add([runner("a")], concurrency: 1)
        pools.beginLease(pools.announcement, ["a": 1])
        let run = ClaimedRun.sample(token: 7, kind: "a")
        runs.stop(run.fence, note: "why")
        // The database may have given its number and token to another run, which goes on.
        runs.stop(
            RunFence(number: 7, token: 7, startedAt: run.startedAt.advanced(by: .seconds(1))), note: "other")
        let grant = try #require(pools.beginClaim(for: pool))
        runs.start([run], under: grant)
        let cancelled = JobError(message: "why", cause: .cancelled)
        #expect(store.verdicts == [.final(.cancelled, cancelled, nil)])
    }

    @Test func runOfAKindThatNoPoolHandlesIsLeftToTheLease() throws {
        let store = ScriptedStore()
        let runs = store.table(of: pools)
        let pool = pools.add([runner("a")], concurrency: 1)
        pools.beginLease(pools.announcement, ["a": 1])
        let grant = try #require(pools.beginClaim(for: pool))
        let run = ClaimedRun.sample(token: 7, kind: "other")
        runs.start([run], under: grant)
        #expect(store.verdicts.isEmpty && !runs.has(run.fence))
    }

    // MARK: The end

    @Test func waitForTheEndIsBounded() async throws {
        let naps = Naps()
        let pools = RunnerPools(defaultUserLimit: 1, runtime: naps.runtime)
        let pool = pools.add([runner("a")], concurrency: 1)
        pools.beginLease(pools.announcement, ["a": 1])
        let grant = try #require(pools.beginClaim(for: pool))
        pools.stop()
        #expect(await !pools.drained(within: .milliseconds(1)))
        async let isDrained = pools.drained(within: .seconds(600))
        pools.endClaim(grant, nil)
        #expect(await isDrained)
    }
}
