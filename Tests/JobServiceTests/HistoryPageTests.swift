import JobModel
import JobStore
import Support
import Testing

@testable import JobService

/// Pages of a job's attempts and log.
@Suite(.timeLimit(.minutes(2))) struct HistoryPageTests {
    /// A job that was tried `count` times, of which the last attempt runs.
    private func job(_ bench: ServiceBench, attempts count: Int) async throws -> (id: JobID, run: ClaimedRun)
    {
        let id = try await bench.enqueue("a") { $0.maxAttempts = count }.id
        for _ in 1..<count {
            let error = JobError(message: "oops", cause: .handler)
            let again = Verdict.again(.retryScheduled, error, after: .zero, countsAttempt: true)
            _ = try await bench.store.finish(
                FinishedRun(try await bench.claim(), node: "one", verdict: again))
        }
        return (id, try await bench.claim())
    }

    private func attempts(
        _ bench: ServiceBench, of id: JobID, size: Int, shortenedTo count: Int? = nil,
        for caller: Caller = .root
    ) async throws -> [Attempt] {
        var attempts: [Attempt] = []
        var request = PageRequest(size: size)
        repeat {
            var page = try await bench.jobs.attempts(of: id, request, for: caller)
            if let count { try page.shorten(to: count) }
            #expect(page.items.count <= count ?? size)
            attempts += page.items
            request.token = ExactText(page.nextToken)
        } while !request.token.isEmpty && attempts.count < 100
        return attempts
    }

    @Test func everyAttemptIsOnOnePage() async throws {
        try await ServiceBench.with { bench in
            let (id, run) = try await job(bench, attempts: 5)
            for isOver in [false, true] {
                if isOver {
                    _ = try await bench.store.finish(
                        FinishedRun(run, node: "one", verdict: .final(.succeeded, nil, nil)))
                }
                let whole = try await bench.jobs.get(id, payload: false, for: .root).attempts
                #expect(whole.count == 5 && whole.last?.outcome == (isOver ? .succeeded : .running))
                for size in [1, 2, 4, 5, 6, 0, 1000] where size > 0 {
                    #expect(try await attempts(bench, of: id, size: size) == whole)
                }
                #expect(try await attempts(bench, of: id, size: 4, shortenedTo: 1) == whole)
                let hidden = try await attempts(bench, of: id, size: 2, for: .of("a"))
                #expect(hidden.map(\.number) == whole.map(\.number) && hidden.allSatisfy { $0.node.isEmpty })
            }
        }
    }

    /// An end that ended no attempt is not in the list.
    @Test func aJobThatNeverRanHasNoAttempts() async throws {
        try await ServiceBench.with { bench in
            let id = try await bench.enqueue("a").id
            #expect(try await attempts(bench, of: id, size: 10) == [])
            _ = try await bench.jobs.cancel(id, by: .root)
            _ = try await bench.jobs.retry(id, by: .root)
            _ = try await bench.jobs.cancel(id, by: .root)
            #expect(try await attempts(bench, of: id, size: 1) == [])
            _ = try await bench.jobs.retry(id, by: .root)
            try await bench.run()
            #expect(try await attempts(bench, of: id, size: 1).map(\.outcome) == [.succeeded])
        }
    }

    @Test func everyLineIsOnOnePage() async throws {
        try await ServiceBench.with { bench in
            let (id, run) = try await job(bench, attempts: 1)
            let levels: [LogLine.Level] = [.debug, .info, .warning, .error]
            let lines = (1...10).map { number in
                LogLine(
                    number: Int64(number), at: Timestamp(microseconds: 1), attempt: 1,
                    level: levels[number % 4], message: "line \(number)")
            }
            try await bench.store.save([
                RunUpdate(run, progress: nil, log: lines)
            ])
            func read(_ size: Int, after line: Int64 = 0, from level: LogLine.Level? = nil) async throws
                -> [LogLine]
            {
                var found: [LogLine] = []
                var request = PageRequest(size: size)
                repeat {
                    let page = try await bench.jobs.logLines(
                        of: id, after: line, from: level, request, for: .of("a"))
                    found += page.items
                    request.token = ExactText(page.nextToken)
                } while !request.token.isEmpty && found.count < 100
                return found
            }
            for size in [1, 3, 10, 600] {
                #expect(try await read(size) == lines)
                #expect(try await read(size, after: 4) == Array(lines.dropFirst(4)))
                #expect(try await read(size, after: 10) == [])
                #expect(try await read(size, from: .debug) == lines)
                #expect(
                    try await read(size, from: .warning)
                        == lines.filter { [.warning, .error].contains($0.level) })
                #expect(try await read(size, after: 4, from: .error).map(\.number) == [7])
            }
            let token = try await bench.jobs.logLines(of: id, PageRequest(size: 2), for: .root).nextToken
            let next = PageRequest(token: ExactText(token))
            await #expect(throws: ServiceError.pageTokenInvalid) {
                try await bench.jobs.logLines(of: id, from: .info, next, for: .root)
            }
            await #expect(throws: ServiceError.pageTokenInvalid) {
                try await bench.jobs.attempts(of: id, next, for: .root)
            }
            let error = await #expect(throws: ServiceError.self) {
                try await bench.jobs.logLines(of: id, after: -1, PageRequest(size: -1), for: .root)
            }
            #expect(error?.fieldViolations.map(\.field) == ["after_line", "page_size"])
        }
    }

    @Test func aJobThatTheCallerMayNotSee() async throws {
        try await ServiceBench.with { bench in
            let (id, _) = try await job(bench, attempts: 1)
            for (id, caller) in [(id, Caller.of("b")), (JobID.version7(at: .now), .root)] {
                await #expect(throws: ServiceError.notFound(id)) {
                    try await bench.jobs.attempts(of: id, PageRequest(), for: caller)
                }
                await #expect(throws: ServiceError.notFound(id)) {
                    try await bench.jobs.logLines(of: id, PageRequest(), for: caller)
                }
            }
        }
    }
}
