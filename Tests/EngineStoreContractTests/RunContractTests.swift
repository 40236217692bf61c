import JobModel
import Support
import Testing

/// What a run writes: its end, what it says, its checkpoint.
@Suite struct RunContractTests {
    @Test(arguments: Implementation.allCases)
    func finalEndIsWritten(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let ends: [(Verdict, JobState)] = [
                (.success, .succeeded), (.failure, .failed), (.cancelled, .cancelled),
            ]
            for (verdict, state) in ends {
                let run = try await bench.start()
                #expect(try await bench.one.finish(run, verdict) == .written)
                let job = try await bench.record(run.key.id)
                #expect(job.state == state && job.sequence == 3 && job.attempt == 1 && job.finishedAt != nil)
                #expect(job.startedAt == run.startedAt)
                guard case .final(let type, let error, let result) = verdict else { continue }
                #expect(job.error == error && job.result == result)
                let events = try await bench.events(run.key.id)
                #expect(events.map(\.type) == [.enqueued, .started, type])
                #expect(events.last?.node == "one" && events.last?.result == result)
                #expect(bench.one.changes.events(of: run.key.id) == events)
            }
        }
    }

    @Test(arguments: Implementation.allCases)
    func largeResultIsLeftOutOfTheEvent(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let run = try await bench.start()
            let data = [UInt8](repeating: 1, count: JobLimits.eventResultBytesMax + 1)
            let result = JobResult(data: data, contentType: "x/y")
            try await bench.one.finish(run, .final(.succeeded, nil, result))
            #expect(try await bench.record(run.key.id).result == result)
            #expect(try await bench.events(run.key.id).last?.result == nil)
        }
    }

    @Test(arguments: Implementation.allCases)
    func retryWaitsForItsDelay(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let first = try await bench.start()
            #expect(try await bench.one.finish(first, .again(after: .seconds(100))) == .written)
            var job = try await bench.record(first.key.id)
            #expect(job.state == .pending && job.attempt == 1 && job.sequence == 3)
            #expect(job.error?.cause == .handler && job.startedAt == first.startedAt)
            #expect(job.attempts.map(\.outcome) == [.failed])
            let event = try #require(bench.one.changes.events(of: first.key.id).last)
            #expect(event.dueAt == event.at.advanced(by: .seconds(100)))
            #expect(try await bench.one.claim().runs.isEmpty)
            try await bench.cluster.pass(.seconds(101))
            #expect(try await bench.one.store.promoteDue().promoted == 1)
            let second = try await bench.claimed(first.key.id)
            #expect(second.attempt == 2 && second.token > first.token && second.sequence == 4)
            // Without a delay it can be claimed at once.
            #expect(try await bench.one.finish(second, .again()) == .written)
            let third = try await bench.claimed(first.key.id)
            try await bench.one.finish(third, .failure)
            job = try await bench.record(first.key.id)
            #expect(job.state == .failed && job.attempt == 3 && job.sequence == 7)
            #expect(job.attempts.map(\.number) == [1, 2, 3])
        }
    }

    /// It goes before what came after it, also when its node had died. A job that failed goes to the end.
    @Test(arguments: Implementation.allCases)
    func aJobThatIsGivenBackKeepsItsPlace(_ implementation: Implementation) async throws {
        let died = Verdict.again(
            .retryScheduled, JobError(message: "m", cause: .interrupted), after: nil, countsAttempt: true)
        try await ContractBench.with(implementation) { bench in
            for (verdict, keepsPlace) in [(Verdict.released, true), (died, true), (.again(), false)] {
                let first = try await bench.start { $0.userID = "ada" }
                let due = try await bench.record(first.key.id).dueAt
                let later = try await bench.enqueue { $0.userID = "ada" }
                try await bench.one.finish(first, verdict)
                let job = try await bench.record(first.key.id)
                #expect(job.state == .pending && (job.dueAt == due) == keepsPlace)
                let next = try #require(await bench.one.claim(1).runs.first)
                #expect(next.key.id == (keepsPlace ? first.key.id : later.id))
                for run in try await [next] + bench.one.claim().runs {
                    try await bench.one.finish(run, .success)
                }
            }
        }
    }

    @Test(arguments: Implementation.allCases)
    func releasedAttemptDoesNotCount(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let first = try await bench.start { $0.maxAttempts = 2 }
            var job = try await bench.record(first.key.id)
            #expect(job.attempt == 1 && job.attemptsUsed == 1)
            #expect(try await bench.one.finish(first, .released) == .written)
            job = try await bench.record(first.key.id)
            #expect(job.attempt == 1 && job.attemptsUsed == 0 && job.spec.maxAttempts == 2)
            let again = try await bench.claimed(first.key.id)
            #expect(again.attempt == 2 && again.attemptsUsed == 1 && again.spec.maxAttempts == 2)
            #expect(again.sequence == 4 && again.token > first.token)
            try await bench.one.finish(again, .again())
            let last = try await bench.claimed(first.key.id)
            #expect(last.attempt == 3 && last.attemptsUsed == 2)
            job = try await bench.record(first.key.id)
            #expect(job.attempt == 3 && job.attemptsUsed == 2 && job.spec.maxAttempts == 2)
            #expect(job.attempts.map(\.number) == [1, 2, 3])
            #expect(job.attempts.map(\.outcome) == [.released, .failed, .running])
            #expect(job.attempts.map(\.isCounted) == [false, true, true])
            // A Retry begins the budget again, and the numbers go on.
            try await bench.one.finish(last, .failure)
            #expect(try await bench.record(first.key.id).attemptsUsed == 2)
            try await bench.one.store.requestRetry(first.key.id, for: .all)
            job = try await bench.record(first.key.id)
            #expect(job.attempt == 3 && job.attemptsUsed == 0 && job.spec.maxAttempts == 2)
            #expect(try await bench.claimed(first.key.id).attemptsUsed == 1)
        }
    }

    @Test(arguments: Implementation.allCases)
    func staleTokenWritesNothing(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let old = try await bench.start()
            try await bench.one.finish(old, .again())
            let new = try await bench.claimed(old.key.id)
            for verdict: Verdict in [.success, .failure, .cancelled, .again(), .released] {
                #expect(try await bench.one.finish(old, verdict) == .stale)
            }
            #expect(try await bench.record(new.key.id).state == .running)
            #expect(try await bench.one.finish(new, .success) == .written)
            #expect(try await bench.one.finish(new, .success) == .stale)
            #expect(try await bench.one.finish(new, .again()) == .stale)
            let events = try await bench.events(new.key.id)
            #expect(events.map(\.sequence) == [1, 2, 3, 4, 5])
            #expect(bench.one.changes.events(of: new.key.id) == events)
        }
    }

    /// Its own node and the one that takes it back may share a commit.
    @Test(arguments: Implementation.allCases)
    func runEndsOnceInOneCommit(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            func commit(_ ends: [(ClaimedRun, Verdict)]) async throws -> [FinishResult] {
                try await bench.cluster.finish(
                    ends.map { FinishedRun($0, node: "one", verdict: $1) }, by: bench.one.store)
            }
            let old = try await bench.start()
            #expect(
                try await commit([(old, .again(cause: .interrupted)), (old, .again())]) == [
                    .written, .stale,
                ])
            let new = try await bench.claimed(old.key.id)
            let other = try await bench.start { $0.userID = "v" }
            let outcomes = try await commit([
                (old, .success), (new, .again()), (other, .success), (new, .success),
            ])
            #expect(outcomes == [.stale, .written, .written, .stale])
            let job = try await bench.record(new.key.id)
            #expect(job.state == .pending && job.sequence == 5)
            #expect(try await bench.record(other.key.id).state == .succeeded)
        }
    }

    @Test(arguments: Implementation.allCases)
    func cancelThatCameFirstHoldsUpAnotherAttempt(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let run = try await bench.start()
            try await bench.one.store.requestCancel(run.key.id, note: "stop it", for: .all)
            #expect(try await bench.one.finish(run, .again()) == .cancelRequested(note: "stop it"))
            #expect(try await bench.one.finish(run, .released) == .cancelRequested(note: "stop it"))
            #expect(try await bench.record(run.key.id).state == .running)
            #expect(try await bench.one.finish(run, .cancelled) == .written)
            let job = try await bench.record(run.key.id)
            #expect(job.state == .cancelled && !job.cancelRequested && job.error?.message == "why")
        }
    }

    @Test(arguments: Implementation.allCases)
    func successOutweighsACancelThatCameLate(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let run = try await bench.start()
            try await bench.one.store.requestCancel(run.key.id, note: "", for: .all)
            #expect(try await bench.one.finish(run, .success) == .written)
            #expect(try await bench.record(run.key.id).state == .succeeded)
        }
    }

    // MARK: Checkpoints

    @Test(arguments: Implementation.allCases)
    func checkpointGoesToTheNextAttempt(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let first = try await bench.start()
            for data: [UInt8] in [[1], [2]] {
                try await bench.one.store.save(checkpoint: data, of: first.fence)
            }
            try await bench.one.finish(first, .released)
            let second = try await bench.claimed(first.key.id)
            #expect(second.checkpoint == [2])
            await #expect(throws: StoreError.stale) {
                try await bench.one.store.save(checkpoint: [3], of: first.fence)
            }
            try await bench.one.finish(second, .failure)
            await #expect(throws: StoreError.stale) {
                try await bench.one.store.save(checkpoint: [4], of: second.fence)
            }
            // A call of Retry keeps it.
            try await bench.one.store.requestRetry(first.key.id, for: .all)
            #expect(try await bench.claimed(first.key.id).checkpoint == [2])
        }
    }

    // MARK: Updates

    private func update(_ run: ClaimedRun, stage: String?, lines: [Int64] = []) -> RunUpdate {
        let moment = Timestamp(microseconds: 1_700_000_000_000_000)
        return RunUpdate(
            run,
            progress: stage.map {
                Progress(stage: $0, fraction: 0.5, message: "m", done: 1, total: 2, updatedAt: moment)
            },
            log: lines.map {
                LogLine(number: $0, at: moment, attempt: run.attempt, level: .info, message: "\($0)")
            })
    }

    @Test(arguments: Implementation.allCases)
    func updatesAreKeptWhileTheRunHasItsLease(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let store = bench.one.store
            let run = try await bench.start()
            try await store.save([])
            try await store.save([update(run, stage: "a", lines: [1]), update(run, stage: nil, lines: [2])])
            try await store.save([update(run, stage: "b", lines: [2, 3])])
            var job = try await bench.record(run.key.id)
            #expect(job.progress?.stage == "b" && job.log.map(\.number) == [1, 2, 3])
            try await bench.one.finish(run, .again())
            let next = try await bench.claimed(run.key.id)
            #expect(next.lastLogLine == 3)
            // The next attempt has said nothing yet, and what the last one says now is dropped.
            try await store.save([update(run, stage: "late", lines: [4])])
            job = try await bench.record(run.key.id)
            #expect(job.progress == nil && job.log.map(\.number) == [1, 2, 3])
            // One update that is dropped does not hold up others.
            try await store.save([update(run, stage: "late"), update(next, stage: "c", lines: [4])])
            job = try await bench.record(run.key.id)
            #expect(job.progress?.stage == "c" && job.log.map(\.number) == [1, 2, 3, 4])
        }
    }

    @Test(arguments: Implementation.allCases)
    func lastLinesOfTheLogAreKept(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation) { bench in
            let run = try await bench.start()
            let kept = Int64(JobLimits.logLinesKept)
            try await bench.one.store.save([update(run, stage: nil, lines: Array(1...kept))])
            try await bench.one.store.save([update(run, stage: nil, lines: [kept + 1, kept + 2])])
            #expect(try await bench.record(run.key.id).log.map(\.number) == Array(3...(kept + 2)))
        }
    }
}
