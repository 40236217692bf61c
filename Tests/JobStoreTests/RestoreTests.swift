import Foundation
import JobModel
import Logging
import Postgres
import Support
import Synchronization
import TestDatabase
import Testing

@testable import JobStore

/// A database that comes back without its last commits, while nodes live on, gives numbers and tokens again. What a node
/// remembers must not reach the jobs that have them now.
@Suite(.timeLimit(.minutes(2))) struct RestoreTests {
    private static let progress = Progress(
        stage: "s", fraction: 0.5, message: "", done: 0, total: 0, updatedAt: .now)

    /// The run of a job that was lost, and the run of another user's job that has its number and its token.
    private func withRepeatedRun(
        _ body: (_ bench: Bench, _ lost: ClaimedRun, _ new: ClaimedRun) async throws -> Void
    ) async throws {
        try await Bench.with { bench in
            // The lanes are there before.
            for user in ["ada", "eve"] as [ExactText] {
                try await bench.finish(bench.start(JobSpec(kind: "k", userID: user)), .success)
            }
            try await bench.schema.keep(bench.database)
            let lost = try await bench.start(JobSpec(kind: "k", userID: "ada"))
            try await bench.schema.restore(bench.database)
            let new = try await bench.start(JobSpec(kind: "k", userID: "eve"))
            #expect(new.key.number == lost.key.number && new.token == lost.token, "nothing repeats")
            try await body(bench, lost, new)
        }
    }

    @Test func theEndOfALostRunIsNotThatOfAnother() async throws {
        try await withRepeatedRun { bench, lost, new in
            #expect(try await bench.finish(lost, .success) == .stale)
            #expect(try await bench.finish(lost, .again()) == .stale)
            #expect(try await bench.job(new.key.id).state == .running)
            // In one commit with the other run's own end.
            let ends = [(lost, Verdict.failure), (new, .success)].map {
                FinishedRun($0, node: "one", verdict: $1)
            }
            let outcomes = try await bench.database.run("finish") { connection throws(PostgresError) in
                try bench.store.commitFinishedRuns(ends, connection)
            }
            #expect(try outcomes.map { try $0.get() } == [.stale, .written])
            #expect(try await bench.job(new.key.id).state == .succeeded)
        }
    }

    @Test func whatALostRunReportsIsNotKeptOfAnother() async throws {
        try await withRepeatedRun { bench, lost, new in
            let line = LogLine(number: 1, at: .now, attempt: 1, level: .info, message: "ada's")
            try await bench.store.save([RunUpdate(lost, progress: Self.progress, log: [line])])
            await #expect(throws: StoreError.stale) {
                try await bench.store.save(checkpoint: [1], of: lost.fence)
            }
            let job = try #require(await bench.store.jobWithHistory(new.key.id, payload: false))
            #expect(job.progress == nil && job.log.isEmpty)
            #expect(try await bench.count("checkpoint") == 0)
            // Trimming the log of the lost run leaves the other's.
            try await bench.store.save([RunUpdate(new, progress: nil, log: [line])])
            var late = line
            late.number = 100_000
            try await bench.store.save([RunUpdate(lost, progress: nil, log: [late])])
            let kept = try await bench.store.jobWithHistory(new.key.id, payload: false)
            #expect(kept?.log.map(\.number) == [1])
        }
    }

    @Test func aCancelIsOfTheRunThatItNames() async throws {
        try await withRepeatedRun { bench, lost, new in
            _ = try await bench.store.cancel(new.key.id, note: "why")
            let requests = try await bench.store.cancelRequests().map(\.run)
            #expect(requests == [new.fence] && requests != [lost.fence])
            for case .cancelRequested(_, let run, _, _) in bench.changes.all { #expect(run == new.fence) }
        }
    }

    @Test func aRenewalFindsTheRunsThatAreLost() async throws {
        try await withRepeatedRun { bench, lost, new in
            let renewal = try await bench.store.renew(
                lease: .seconds(600), known: [lost.fence], timeout: .seconds(10))
            #expect(renewal.isAlive && renewal.ghosts == [lost.fence])
            #expect(renewal.strays.map(\.fence) == [new.fence])
        }
    }

    @Test func aNodeThatIsLostIsNoOther() async throws {
        try await Bench.with { bench in
            try await bench.schema.keep(bench.database)
            let lost = try await bench.peer("lost")
            try await bench.schema.restore(bench.database)
            let new = try await bench.peer("new")
            #expect(new.nodeNumber != lost.nodeNumber)
            // Even if it had the same number.
            try await bench.script(
                """
                INSERT INTO node (id, uid, name, version, concurrency, kinds, lease_until) OVERRIDING SYSTEM VALUE
                SELECT \(lost.nodeNumber), gen_random_uuid(), 'same', version, concurrency, kinds, lease_until
                FROM node WHERE name = 'new'
                """)
            let renewal = try await lost.renew(lease: .seconds(600), known: [], timeout: .seconds(10))
            #expect(!renewal.isAlive)
            #expect(try await lost.announce(kinds: ["k": .fail], concurrency: 1) == nil)
            try await bench.enqueue()
            #expect(try await bench.claim(by: lost).isEmpty)
            try await lost.endNode()
            #expect(try await bench.count("node WHERE ended_at IS NULL AND name = 'same'") == 1)
        }
    }

    /// The node survives the restore, a kind that it has announced later does not.
    @Test func aNodeThatKnowsALostKindRegistersAgain() async throws {
        try await Bench.with { bench in
            try await bench.schema.keep(bench.database)
            let kinds = ["k": Interruption.retry, "late": .retry]
            #expect(try await bench.store.announce(kinds: kinds, concurrency: 1) != nil)
            func isAlive() async throws -> Bool {
                try await bench.store.renew(lease: .seconds(600), known: [], timeout: .seconds(10)).isAlive
            }
            #expect(try await isAlive())
            try await bench.schema.restore(bench.database)
            #expect(try await !isAlive())
        }
    }

    // MARK: Lanes and kinds

    private enum Way: CaseIterable {
        case one, batch, keyed, keyedBatch
    }

    /// The first store remembers a lane and a kind that are another user's and another kind's now.
    @Test(arguments: Way.allCases) private func aLaneAndAKindAreConfirmed(_ way: Way) async throws {
        try await Bench.with { bench in
            try await bench.schema.keep(bench.database)
            try await bench.enqueue(JobSpec(kind: "a", userID: "ada"))
            try await bench.schema.restore(bench.database)
            let peer = try await bench.peer()
            let evesJob = try await peer.enqueue(
                NewJob(spec: JobSpec(kind: "b", userID: "eve"), now: .now)
            ).job
            var spec = JobSpec(kind: "a", userID: "ada")
            if way == .keyed || way == .keyedBatch { spec.idempotencyKey = "key" }
            let id: JobID
            switch way {
            case .one, .keyed: id = try await bench.enqueue(spec).id
            case .batch, .keyedBatch:
                id = try await bench.store.enqueueBatch([NewJob(spec: spec, now: .now)])[0].id
            }
            let job = try await bench.job(id)
            #expect(job.spec.userID == "ada" && job.spec.kind == "a" && job.spec.queue == "default")
            let lanes = try await bench.texts(
                "SELECT user_id || ' ' || (SELECT user_id FROM lane WHERE lane.id = job.lane) FROM job ORDER BY number"
            )
            #expect(lanes == ["eve eve", "ada ada"])
            #expect(try await bench.job(evesJob.id).spec.kind == "b")
        }
    }

    @Test func aJobThatStartsAtOnceIsOfItsOwnUser() async throws {
        try await Bench.with { bench in
            let starter = Starter(kinds: bench.kinds)
            bench.store.startJobs(with: starter)
            try await bench.schema.keep(bench.database)
            try await bench.enqueue(JobSpec(kind: "k", userID: "ada"))
            try await bench.schema.restore(bench.database)
            let peer = try await bench.peer()
            _ = try await peer.enqueue(NewJob(spec: JobSpec(kind: "k", userID: "eve"), now: .now))
            let job = try await bench.enqueue(JobSpec(kind: "k", userID: "ada"))
            let lane = try await bench.texts(
                "SELECT lane.user_id FROM job JOIN lane ON lane.id = job.lane WHERE job.id = '\(job.id)'")
            #expect(lane == ["ada"])
            #expect(starter.runs.last?.key.id == job.id && starter.runs.last?.spec.userID == "ada")
        }
    }

    @Test func aLimitIsSetInALaneThatWasLost() async throws {
        try await Bench.with { bench in
            let caller = Caller(name: "", source: .token, address: "", users: .all)
            func set(_ limit: Int) async throws {
                try await bench.store.setUserLimit(limit, userID: "ada", queue: "q", by: caller)
            }
            try await bench.schema.keep(bench.database)
            try await set(3)
            try await bench.schema.restore(bench.database)
            try await set(5)
            let limit = try await bench.store.userLimit(userID: "ada", queue: "q", default: 1)
            #expect(limit.maxRunning == 5 && limit.isOverridden)
        }
    }

    // MARK: The change log

    @Test func theFeedFindsThatChangesAreLost() async throws {
        try await Bench.with { bench in
            var cursor = try await bench.store.openChanges()
            try await bench.enqueue()
            func read() async throws -> ChangeBatch {
                let batch = try await bench.store.changes(since: cursor, .allNodes)
                cursor = batch.cursor
                return batch
            }
            try await bench.schema.keep(bench.database)
            #expect(try await !read().hasLostHistory)
            try await bench.enqueue()
            #expect(try await !read().hasLostHistory)
            #expect(try await !read().hasLostHistory)
            try await bench.schema.restore(bench.database)
            // Another change has the number of the one that was lost.
            try await bench.enqueue()
            #expect(try await read().hasLostHistory)
        }
    }
}

/// Takes every job that is offered.
private final class Starter: RunStarter {
    private let kinds: [Int32]
    private let started = Mutex<[ClaimedRun]>([])

    init(kinds: [Int32]) {
        self.kinds = kinds
    }

    var runs: [ClaimedRun] { started.withLock(\.self) }

    func beginStart(upTo count: Int) -> StartGrant? {
        StartGrant(id: 1, slots: count, kinds: kinds, defaultUserLimit: 10)
    }

    func start(_ claimed: [ClaimedRun], under grant: StartGrant) {
        started.withLock { $0 += claimed }
    }

    func endStart(_ grant: StartGrant) {}
    func didFinishRuns() {}
}
