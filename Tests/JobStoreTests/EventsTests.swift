import JobModel
import JobStore
import Support
import Testing

@Suite struct EventsTests {
    /// A job that has seen everything.
    private func eventful(_ bench: Bench) async throws -> ClaimedRun {
        func next() async throws -> ClaimedRun { try #require(try await bench.claim().first) }
        let first = try await bench.start(JobSpec(kind: "k", userID: "u", queue: "q", maxAttempts: 5))
        try await bench.finish(first, .again())
        try await bench.finish(try await next(), .released)
        try await bench.finish(try await next(), .again(cause: .interrupted))
        try await bench.finish(try await next(), .again(cause: .timeout))
        try await bench.finish(try await next(), .failure)
        _ = try await bench.store.retry(first.key.id)
        let run = try await next()
        _ = try await bench.store.cancel(first.key.id, note: "why")
        try await bench.finish(run, .cancelled)
        _ = try await bench.store.retry(first.key.id)
        _ = try await bench.store.cancel(first.key.id, note: "waits")
        _ = try await bench.store.retry(first.key.id)
        try await bench.finish(try await next(), .success)
        return first
    }

    private static let types: [JobEventType] = [
        .enqueued, .started, .retryScheduled, .started, .released, .started, .retryScheduled, .started,
        .retryScheduled, .started, .failed, .retried, .started, .cancelRequested, .cancelled, .retried,
        .cancelled, .retried, .started, .succeeded,
    ]

    @Test func everySuffixIsWhole() async throws {
        try await Bench.with { bench in
            let key = try await eventful(bench).key
            let all = try #require(try await bench.store.events(after: [key.number: 0])[key.number])
            #expect(all.map(\.type) == Self.types)
            #expect(all.map(\.sequence) == Array(1...Int64(Self.types.count)))
            for (before, event) in zip(all, all.dropFirst()) {
                #expect((event.type?.from ?? []).contains(before.state))
                #expect(before.at <= event.at)
            }
            #expect(all.allSatisfy { $0.kind == "k" && $0.userID == "u" && $0.queue == "q" })
            for after in 0...all.count {
                let rest = try await bench.store.events(after: [key.number: Int64(after)])[key.number] ?? []
                #expect(rest == Array(all.dropFirst(after)), "after \(after)")
            }
            // The events that were published at once are those that the database has.
            #expect(bench.changes.events(of: key.id) == all)
        }
    }

    /// Each moment of a job's life, seen from the database.
    @Test func eventsSoFarAtEveryMoment() async throws {
        try await Bench.with { bench in
            var run = try await bench.start()
            let number = run.key.number
            func expect(_ types: [JobEventType]) async throws {
                let events = try await bench.store.events(after: [number: 0])[number] ?? []
                #expect(events.map(\.type) == types)
                #expect(events == bench.changes.events(of: run.key.id))
            }
            try await expect([.enqueued, .started])
            try await bench.finish(run, .again())
            try await expect([.enqueued, .started, .retryScheduled])
            run = try #require(try await bench.claim().first)
            try await expect([.enqueued, .started, .retryScheduled, .started])
            try await bench.finish(run, .failure)
            try await expect([.enqueued, .started, .retryScheduled, .started, .failed])
            _ = try await bench.store.retry(run.key.id)
            try await expect([.enqueued, .started, .retryScheduled, .started, .failed, .retried])
        }
    }

    /// Whoever follows the job gets on by what is read; whoever looks at it wants to know how it is now.
    @Test func veryLongHistoryIsReadFromItsBeginning() async throws {
        try await Bench.with { bench in
            let job = try await bench.enqueue()
            try await bench.script(
                """
                INSERT INTO history (number, sequence, type, attempt, at, started_at, node)
                SELECT \(job.number), 2 * i + 1, 'released', i, now(), now(), \(bench.store.nodeNumber)
                FROM generate_series(1, 1500) i;
                UPDATE live SET sequence = 3001 WHERE number = \(job.number)
                """)
            var got: Int64 = 0
            var reads = 0
            while got < 3001, reads < 5 {
                let events = try #require(
                    try await bench.store.events(after: [job.number: got])[job.number])
                #expect(events.map(\.sequence) == Array(got + 1...got + Int64(events.count)))
                got += Int64(events.count)
                reads += 1
            }
            #expect(got == 3001 && reads == 2)
            let whole = try #require(await bench.store.jobWithHistory(job.id, payload: false))
            #expect(whole.attempts.map(\.number) == Array(1401...1500))
        }
    }

    @Test func manyJobsAtOnce() async throws {
        try await Bench.with { bench in
            let first = try await bench.start()
            let second = try await bench.enqueue()
            let events = try await bench.store.events(
                after: [first.key.number: 1, second.number: 0, 999_999: 0])
            #expect(events[first.key.number]?.map(\.sequence) == [2])
            #expect(events[second.number]?.map(\.sequence) == [1])
            #expect(events[999_999] == nil)
            #expect(try await bench.store.events(after: [:]).isEmpty)
        }
    }

    @Test func attempts() async throws {
        try await Bench.with { bench in
            let id = try await eventful(bench).key.id
            let job = try #require(await bench.store.jobWithHistory(id, payload: false))
            #expect(
                job.attempts.map(\.outcome) == [
                    .failed, .released, .interrupted, .timedOut, .failed, .cancelled, .succeeded,
                ])
            #expect(job.attempts.map(\.number) == [1, 2, 3, 4, 5, 6, 7])
            #expect(job.attempts.allSatisfy { $0.node == "one" && $0.endedAt != nil })
            #expect(job.attempts.last?.error == nil)
            #expect(job.attempts[5].error == JobError(message: "why", cause: .cancelled))
            #expect(job.attempts.map(\.isCounted) == [true, false, true, true, true, true, true])
            let run = try await bench.start()
            let running = try #require(await bench.store.jobWithHistory(run.key.id, payload: false))
            #expect(
                running.attempts == [
                    Attempt(
                        number: 1, node: "one", startedAt: run.startedAt, endedAt: nil, outcome: .running,
                        error: nil)
                ])
        }
    }

    /// The lists stay within bounds, however often a job was cancelled while it ran and retried.
    @Test func lastAttemptsWithShortMessages() async throws {
        try await Bench.with { bench in
            let job = try await bench.enqueue()
            let node = bench.store.nodeNumber
            try await bench.script(
                """
                INSERT INTO history (number, sequence, type, attempt, at, started_at, node, cause, reason, message)
                SELECT \(job.number), 4 * i - 2 + e.n, e.type::event_type, i, now(),
                    CASE WHEN e.n = 2 THEN now() END, CASE WHEN e.n < 3 THEN \(node) END, 'cancelled', 'cancelled',
                    repeat('é', 2000)
                FROM generate_series(1, 150) i
                CROSS JOIN (VALUES (1, 'cancel_requested'), (2, 'cancelled'), (3, 'retried')) AS e (n, type);
                UPDATE live SET sequence = 601 WHERE number = \(job.number)
                """)
            let whole = try #require(await bench.store.jobWithHistory(job.id, payload: false))
            #expect(whole.attempts.map(\.number) == Array(51...150))
            #expect(
                whole.attempts.allSatisfy { $0.outcome == .cancelled && $0.error?.message.utf8.count == 1024 }
            )
            let events = try #require(try await bench.store.events(after: [job.number: 0])[job.number])
            #expect(events.map(\.sequence) == Array(1...601))
        }
    }
}
