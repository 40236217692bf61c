import JobModel
import Postgres
import Support
import Testing

@testable import JobStore

@Suite struct FinishTests {
    @Test func success() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            #expect(try await bench.finish(run, .success) == .written)
            let job = try await bench.job(run.key.id)
            #expect(job.state == .succeeded && job.sequence == 3 && job.attempt == 1)
            #expect(job.result == JobResult(data: [7], contentType: "x/y") && job.error == nil)
            #expect(job.startedAt == run.startedAt && job.finishedAt != nil)
            #expect(try await bench.count("live") == 0)
        }
    }

    @Test func failure() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            #expect(try await bench.finish(run, .failure) == .written)
            let job = try await bench.job(run.key.id)
            #expect(job.state == .failed && job.result == nil)
            #expect(job.error == JobError(message: "oops", cause: .handler))
        }
    }

    @Test func emptyResultIsAResult() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            let empty = JobResult(data: [], contentType: "x/y")
            try await bench.finish(run, .final(.succeeded, nil, empty))
            #expect(try await bench.job(run.key.id).result == empty)
        }
    }

    @Test func largeResultIsLeftOutOfEvents() async throws {
        try await Bench.with { bench in
            for (size, isKept) in [
                (JobLimits.eventResultBytesMax, true), (JobLimits.eventResultBytesMax + 1, false),
            ] {
                let run = try await bench.start()
                let result = JobResult(data: [UInt8](repeating: 1, count: size), contentType: "x/y")
                try await bench.finish(run, .final(.succeeded, nil, result))
                #expect(try await bench.job(run.key.id).result == result)
                let event = try await bench.store.events(after: [run.key.number: 2])[run.key.number]?.first
                #expect(event?.type == .succeeded && (event?.result != nil) == isKept)
                #expect(bench.changes.events(of: run.key.id).last == event)
                #expect(try await bench.store.jobs([run.key.id], resultBytesMax: 10).first?.result == nil)
            }
        }
    }

    @Test func againLaterOrAtOnce() async throws {
        try await Bench.with { bench in
            let first = try await bench.start()
            #expect(try await bench.finish(first, .again(after: .seconds(100))) == .written)
            var job = try await bench.job(first.key.id)
            #expect(job.state == .pending && job.attempt == 1 && job.sequence == 3)
            #expect(job.error?.cause == .handler && job.startedAt == first.startedAt)
            #expect(try await bench.claim().isEmpty)
            try await bench.script("UPDATE live SET due_at = now()")
            #expect(try await bench.store.promoteDue().promoted == 1)
            let second = try #require(try await bench.claim().first)
            #expect(second.attempt == 2 && second.token > first.token && second.sequence == 4)
            #expect(try await bench.finish(second, .again(after: .zero)) == .written)
            let third = try #require(try await bench.claim().first)
            #expect(third.attempt == 3)
            try await bench.finish(third, .failure)
            job = try await bench.job(first.key.id)
            #expect(job.state == .failed && job.attempt == 3 && job.sequence == 7)
        }
    }

    @Test func releaseCostsNoAttempt() async throws {
        try await Bench.with { bench in
            let first = try await bench.start()
            #expect(try await bench.finish(first, .released) == .written)
            let again = try #require(try await bench.claim().first)
            #expect(again.attempt == 2 && again.attemptsUsed == 1 && again.sequence == 4)
        }
    }

    @Test func staleRunWritesNothing() async throws {
        try await Bench.with { bench in
            let old = try await bench.start()
            try await bench.finish(old, .again())
            let new = try #require(try await bench.claim().first)
            for verdict: Verdict in [.success, .failure, .again(), .released] {
                #expect(try await bench.finish(old, verdict) == .stale)
            }
            #expect(try await bench.job(new.key.id).state == .running)
            #expect(try await bench.finish(new, .success) == .written)
            #expect(try await bench.finish(new, .success) == .stale)
            #expect(try await bench.finish(new, .again()) == .stale)
            #expect(try await bench.job(new.key.id).sequence == 5)
            #expect(bench.changes.events(of: new.key.id).map(\.sequence) == [1, 2, 3, 4, 5])
        }
    }

    /// What two nodes have to say of one job may share a commit.
    @Test func oneRunEndsOnceInOneCommit() async throws {
        try await Bench.with { bench in
            func commit(_ ends: [(ClaimedRun, Verdict)]) async throws -> [FinishResult?] {
                let finishedRuns = ends.map { FinishedRun($0, node: "one", verdict: $1) }
                return try await bench.database.run("commit") { connection throws(PostgresError) in
                    try bench.store.commitFinishedRuns(finishedRuns, connection)
                }.map { try? $0.get() }
            }
            let old = try await bench.start()
            try await bench.finish(old, .again())
            let new = try #require(try await bench.claim().first)
            let other = try await bench.start()
            #expect(
                try await commit([(old, .failure), (new, .again()), (other, .success), (new, .success)])
                    == [.stale, .written, .written, .stale])
            let job = try await bench.job(new.key.id)
            #expect(job.state == .pending && job.sequence == 5)
            #expect(try await bench.job(other.key.id).state == .succeeded)
            #expect(
                bench.changes.events(of: new.key.id).map(\.type)
                    == [.enqueued, .started, .retryScheduled, .started, .retryScheduled])
        }
    }

    @Test func cancelThatCameFirstIsNotOverlooked() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            let asked = try await bench.store.cancel(run.key.id, note: "stop it")
            #expect(asked.state == .running && asked.cancelRequested)
            #expect(try await bench.finish(run, .again()) == .cancelRequested(note: "stop it"))
            #expect(try await bench.finish(run, .released) == .cancelRequested(note: "stop it"))
            #expect(try await bench.job(run.key.id).state == .running)
            #expect(try await bench.finish(run, .cancelled) == .written)
            let job = try await bench.job(run.key.id)
            #expect(job.state == .cancelled && !job.cancelRequested && job.error?.message == "why")
        }
    }

    @Test func successOutweighsACancelThatCameLate() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            _ = try await bench.store.cancel(run.key.id, note: "")
            #expect(try await bench.finish(run, .success) == .written)
            #expect(try await bench.job(run.key.id).state == .succeeded)
        }
    }

    @Test func manyEndsShareCommits() async throws {
        try await Bench.with { bench in
            let jobs = (0..<500).map { NewJob(spec: JobSpec(kind: "k", userID: "u\($0 % 5)"), now: .now) }
            _ = try await bench.store.enqueueBatch(jobs)
            let runs = try await bench.claim(1000, limit: 1000)
            #expect(runs.count == 500)
            let before = try await bench.count("change")
            let outcomes = try await withThrowingTaskGroup(of: FinishResult.self) { group in
                for (index, run) in runs.enumerated() {
                    let verdict: Verdict = [.success, .failure, .again(), .released][index % 4]
                    group.addTask { try await bench.finish(run, verdict) }
                }
                return try await group.reduce(into: [FinishResult]()) { $0.append($1) }
            }
            #expect(outcomes.count == 500 && outcomes.allSatisfy { $0 == .written })
            #expect(try await bench.count("finished") == 250)
            #expect(try await bench.count("live WHERE state = 'ready'") == 250)
            #expect(try await bench.count("change") - before < 250)
        }
    }
}
