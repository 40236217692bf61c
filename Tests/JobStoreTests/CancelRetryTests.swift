import JobModel
import JobStore
import Support
import Testing

@Suite struct CancelRetryTests {
    private let unknown = JobID("0197a0de-0000-4000-8000-000000000bad")!

    private func refusal(_ body: () async throws -> Void) async -> StoreError? {
        do {
            try await body()
            return nil
        } catch {
            return error as? StoreError
        }
    }

    @Test func waitingJobIsCancelledAtOnce() async throws {
        try await Bench.with { bench in
            for due in [JobSpec.Due.after(.zero), .after(.seconds(100))] {
                let job = try await bench.enqueue(JobSpec(kind: "k", userID: "u", due: due))
                let cancelled = try await bench.store.cancel(job.id, note: "no more")
                #expect(cancelled.state == .cancelled && cancelled.sequence == 2)
                #expect(cancelled.error == JobError(message: "no more", cause: .cancelled))
                #expect(cancelled.startedAt == nil && cancelled.finishedAt != nil)
                // Once more changes nothing.
                #expect(try await bench.store.cancel(job.id, note: "other") == cancelled)
            }
            #expect(try await bench.claim().isEmpty)
        }
    }

    @Test func runningJobIsAskedToStopOnce() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            for note in ["first", "second"] {
                #expect(try await bench.store.cancel(run.key.id, note: note).cancelRequested)
            }
            let asked = bench.changes.all.filter { if case .cancelRequested = $0 { true } else { false } }
            #expect(asked.count == 1)
            if case .cancelRequested(let key, let fence, let node, let note)? = asked.first {
                #expect(key == run.key && fence == run.fence && note == "first")
                #expect(node == bench.store.nodeNumber)
            }
            let requests = try await bench.store.cancelRequests()
            #expect(requests.map(\.run) == [run.fence] && requests.map(\.note) == ["first"])
            #expect(
                try await bench.store.renew(lease: .seconds(600), known: [], timeout: .seconds(5)).cancels
                    .map(\.note) == ["first"])
            let peer = try await bench.peer()
            #expect(try await peer.cancelRequests().isEmpty)
        }
    }

    @Test func finalJobStaysAsItIs() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            try await bench.finish(run, .success)
            #expect(try await bench.store.cancel(run.key.id, note: "").state == .succeeded)
        }
    }

    @Test func unknownJob() async throws {
        try await Bench.with { bench in
            #expect(await refusal { _ = try await bench.store.cancel(unknown, note: "") } == .notFound)
            #expect(await refusal { _ = try await bench.store.retry(unknown) } == .notFound)
            let (job, whole) = (
                try await bench.store.job(unknown),
                try await bench.store.jobWithHistory(unknown, payload: true)
            )
            #expect(job == nil && whole == nil)
        }
    }

    /// Each job ends cancelled: at once, or by its run, which is told.
    @Test func cancelAgainstClaim() async throws {
        try await Bench.with(connections: 8) { bench in
            // More attempts than there are claims.
            let jobs = (0..<200).map {
                NewJob(spec: JobSpec(kind: "k", userID: "u\($0 % 20)", maxAttempts: 100), now: .now)
            }
            _ = try await bench.store.enqueueBatch(jobs)
            let peer = try await bench.peer()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for job in jobs {
                    group.addTask {
                        let answer = try await bench.store.cancel(job.id, note: "r")
                        #expect(answer.state == .cancelled || answer.cancelRequested)
                    }
                }
                for _ in 0..<3 {
                    group.addTask {
                        for _ in 0..<20 {
                            for run in try await bench.claim(10, by: peer) {
                                // A retry gives way to the cancel, if that has come; else it comes later.
                                if case .cancelRequested = try await bench.finish(run, .again(), by: peer) {
                                    #expect(try await bench.finish(run, .cancelled, by: peer) == .written)
                                }
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            for run in try await bench.claim(by: peer) { Issue.record("still waits: \(run.key.id)") }
            #expect(try await bench.count("live") == 0)
            #expect(try await bench.count("finished WHERE state = 'cancelled'") == 200)
        }
    }

    @Test func retryKeepsTheHistoryAndAddsToTheBudget() async throws {
        try await Bench.with { bench in
            let run = try await bench.start(JobSpec(kind: "k", userID: "u", priority: 3, maxAttempts: 2))
            try await bench.finish(run, .again())
            let second = try #require(try await bench.claim().first)
            try await bench.finish(second, .failure)
            let back = try await bench.store.retry(run.key.id)
            #expect(back.state == .pending && back.attempt == 2 && back.sequence == 6)
            #expect(
                back.spec.maxAttempts == 2 && back.attemptsUsed == 0 && back.error == nil
                    && back.finishedAt == nil)
            #expect(back.spec.priority == 3)
            let third = try #require(try await bench.claim().first)
            #expect(third.attempt == 3 && third.attemptsUsed == 1 && third.lastAttempt == 4)
            #expect(third.spec.maxAttempts == 2)
            try await bench.finish(third, .failure)
            #expect(try await bench.job(run.key.id).attemptsUsed == 1)
            // A second time, with attempts left over from the first.
            #expect(try await bench.store.retry(run.key.id).attemptsUsed == 0)
            let fourth = try #require(try await bench.claim().first)
            #expect(fourth.attempt == 4 && fourth.attemptsUsed == 1)
            try await bench.finish(fourth, .success)
            let job = try #require(await bench.store.jobWithHistory(run.key.id, payload: false))
            #expect(job.attempts.map(\.number) == [1, 2, 3, 4])
            #expect(job.attempts.map(\.outcome) == [.failed, .failed, .failed, .succeeded])
        }
    }

    @Test func onlyFailedAndCancelledJobsGoBack() async throws {
        try await Bench.with { bench in
            let job = try await bench.enqueue()
            #expect(await refusal { _ = try await bench.store.retry(job.id) } == .wrongState(.pending))
            let run = try #require(try await bench.claim().first)
            #expect(await refusal { _ = try await bench.store.retry(job.id) } == .wrongState(.running))
            try await bench.finish(run, .success)
            #expect(await refusal { _ = try await bench.store.retry(job.id) } == .wrongState(.succeeded))
            let other = try await bench.enqueue()
            _ = try await bench.store.cancel(other.id, note: "")
            #expect(try await bench.store.retry(other.id).state == .pending)
            #expect(try await bench.claim().map(\.key.id) == [other.id])
        }
    }

    @Test func retryAtOnceByMany() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            try await bench.finish(run, .failure)
            let answers = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<8 {
                    group.addTask { (try? await bench.store.retry(run.key.id)) != nil }
                }
                return await group.reduce(into: [Bool]()) { $0.append($1) }
            }
            #expect(answers.count(where: { $0 }) == 1)
            #expect(try await bench.job(run.key.id).sequence == 4)
        }
    }
}
