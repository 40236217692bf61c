import JobModel
import JobStore
import Postgres
import TestDatabase
import Testing

@Suite struct RunUpdatesTests {
    private func progress(_ fraction: Double) -> Progress {
        Progress(
            stage: "s", fraction: fraction, message: "m", done: 1, total: 2,
            updatedAt: Timestamp(microseconds: 5))
    }

    private func lines(_ numbers: ClosedRange<Int64>, attempt: Int = 1) -> [LogLine] {
        numbers.map {
            LogLine(
                number: $0, at: Timestamp(microseconds: $0), attempt: attempt, level: .warning,
                message: "line \($0)")
        }
    }

    private func wanted(_ run: ClaimedRun, _ after: Int64) -> WantedLog {
        WantedLog(number: run.key.number, job: run.key.id, after: after)
    }

    private func update(_ run: ClaimedRun, _ progress: Progress?, _ log: [LogLine] = []) -> RunUpdate {
        RunUpdate(run, progress: progress, log: log)
    }

    @Test func progressAndLogAreKept() async throws {
        try await Bench.with { bench in
            let (run, other) = (try await bench.start(), try await bench.start())
            try await bench.store.save([
                update(run, progress(0.1), lines(1...2)), update(other, progress(0.2)),
            ])
            try await bench.store.save([update(run, progress(0.5), lines(3...3))])
            let job = try #require(await bench.store.jobWithHistory(run.key.id, payload: false))
            #expect(job.progress == progress(0.5) && job.log == lines(1...3))
            let logs = try await bench.store.logs(of: [
                wanted(run, 1), wanted(other, 0), WantedLog(number: 99, job: other.key.id, after: 0),
                WantedLog(number: run.key.number, job: other.key.id, after: 0),
            ])
            #expect(logs == [run.key.number: lines(2...3)])
            let latest = try await bench.store.progress(of: [run.key.number, other.key.number, 99])
            #expect(
                latest.mapValues(\.progress) == [
                    run.key.number: progress(0.5), other.key.number: progress(0.2),
                ])
            try await bench.store.save([])
        }
    }

    @Test func unknownFractionAndLargeCounts() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            func shown() async throws -> [Progress?] {
                let latest = try await bench.store.progress(of: [run.key.number])[run.key.number]
                return [try await bench.job(run.key.id).progress, latest?.progress]
            }
            for (done, total): (Int64, Int64) in [(0, 0), (5_000_000_000, .max), (7, 5_000_000_000)] {
                let progress = Progress(
                    stage: "", fraction: nil, message: "", done: done, total: total,
                    updatedAt: Timestamp(microseconds: 5))
                try await bench.store.save([update(run, progress)])
                #expect(try await shown() == [progress, progress])
            }
            // A node of the release before writes the old columns only.
            try await bench.script("UPDATE progress SET step = 3, steps = 9, fraction = 0.5")
            let old = Progress(
                stage: "", fraction: 0.5, message: "", done: 3, total: 9,
                updatedAt: Timestamp(microseconds: 5))
            #expect(try await shown() == [old, old])
            // Its rows may have no other columns.
            try await bench.script("UPDATE progress SET done = NULL, total = NULL")
            #expect(try await shown() == [old, old])
        }
    }

    /// Each short job says its last words just before its end.
    @Test func callsAtOnceShareCommits() async throws {
        try await Bench.with { bench in
            var started: [ClaimedRun] = []
            for _ in 0..<40 { started.append(try await bench.start()) }
            let runs = started
            let before = try await bench.count("change")
            let lock = try Connection(bench.schema.connectionConfiguration())
            try lock.executeScript("BEGIN; LOCK TABLE progress IN SHARE MODE")
            let (calls, called) = AsyncStream<Void>.makeStream()
            async let saved: Void = withThrowingTaskGroup(of: Void.self) { group in
                for run in runs {
                    group.addTask {
                        called.yield()
                        try await bench.store.save([update(run, progress(0.5))])
                    }
                }
                try await group.waitForAll()
            }
            var waiting = 0
            for await _ in calls {
                waiting += 1
                if waiting == runs.count { break }
            }
            try lock.executeScript("COMMIT")
            try await saved
            #expect(try await bench.count("progress") == runs.count)
            #expect(try await bench.count("change") - before < runs.count)
        }
    }

    @Test func onlyTheLastLinesAreKept() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            for first in stride(from: Int64(1), to: 1000, by: 50) {
                try await bench.store.save([update(run, nil, lines(first...first + 49))])
            }
            #expect(try await bench.count("log_line") == JobLimits.logLinesKept)
            let logs = try await bench.store.logs(of: [wanted(run, 0)])
            #expect(logs == [run.key.number: lines(801...1000)])
            try await bench.finish(run, .again())
            let next = try #require(try await bench.claim().first)
            #expect(next.lastLogLine == 1000)
        }
    }

    @Test func logsOfManyJobs() async throws {
        try await Bench.with { bench in
            let runs = (try await bench.start(), try await bench.start())
            try await bench.store.save([
                update(runs.0, nil, lines(1...200)), update(runs.1, nil, lines(1...3)),
            ])
            let logs = try await bench.store.logs(of: [wanted(runs.0, 198), wanted(runs.1, 0)])
            #expect(logs == [runs.0.key.number: lines(199...200), runs.1.key.number: lines(1...3)])
            #expect(try await bench.store.logs(of: [wanted(runs.1, 3)]).isEmpty)
            #expect(try await bench.store.logs(of: []).isEmpty)
        }
    }

    /// Only then do other nodes find it.
    @Test func tellsWhatIsSaved() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            try await bench.store.save([update(run, progress(0.1), lines(1...2))])
            let saved = bench.changes.all.compactMap { change -> String? in
                switch change {
                case .progress(let reporter, let said, isSaved: true):
                    reporter.fence == run.fence && said == progress(0.1) ? "progress" : nil
                case .log(let key, let said, isSaved: true):
                    key == run.key && said == lines(1...2) ? "log" : nil
                default: nil
                }
            }
            #expect(saved == ["progress", "log"])
        }
    }

    @Test func staleRunSaysNothing() async throws {
        try await Bench.with { bench in
            let old = try await bench.start()
            try await bench.store.save([update(old, progress(0.1), lines(1...5))])
            try await bench.finish(old, .again())
            // Neither while the job waits nor while another run has it, which has not said anything yet.
            for shown in [progress(0.1), nil] {
                try await bench.store.save([update(old, progress(0.9), lines(900...901))])
                let job = try #require(await bench.store.jobWithHistory(old.key.id, payload: false))
                #expect(job.progress == shown && job.log == lines(1...5))
                _ = try await bench.claim()
            }
        }
    }

    @Test func checkpointIsForTheNextAttempt() async throws {
        try await Bench.with { bench in
            let first = try await bench.start()
            #expect(first.checkpoint == nil)
            try await bench.store.save(checkpoint: [1], of: first.fence)
            try await bench.store.save(checkpoint: [2, 0, 255], of: first.fence)
            try await bench.finish(first, .again())
            await #expect(throws: StoreError.stale) {
                try await bench.store.save(checkpoint: [9], of: first.fence)
            }
            let second = try #require(try await bench.claim().first)
            #expect(second.checkpoint == [2, 0, 255])
            await #expect(throws: StoreError.stale) {
                try await bench.store.save(checkpoint: [9], of: first.fence)
            }
            try await bench.finish(second, .failure)
            await #expect(throws: StoreError.stale) {
                try await bench.store.save(checkpoint: [9], of: second.fence)
            }
            _ = try await bench.store.retry(first.key.id)
            #expect(try #require(try await bench.claim().first).checkpoint == [2, 0, 255])
        }
    }

    /// A first attempt that was given back passes on what it saved.
    @Test func checkpointOfAReleasedRun() async throws {
        try await Bench.with { bench in
            let first = try await bench.start()
            try await bench.store.save(checkpoint: [5], of: first.fence)
            try await bench.store.save([update(first, nil, lines(1...3))])
            try await bench.finish(first, .released)
            let again = try #require(try await bench.claim().first)
            #expect(again.attempt == 2)
            #expect(again.checkpoint == [5])
            #expect(again.lastLogLine == 3)
        }
    }
}
