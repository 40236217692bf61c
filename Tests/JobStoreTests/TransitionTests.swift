import JobModel
import JobStore
import Support
import Testing

/// What the statements do, compared with the table of transitions, for each state and each event.
@Suite struct TransitionTests {
    /// A job in a state, and its last run. Each job has run once, so that each state has a run whose end can be tried.
    private func job(in state: JobState, _ bench: Bench) async throws -> ClaimedRun {
        let run = try await bench.start()
        let verdict: Verdict? =
            switch state {
            case .pending: .again()
            case .running: nil
            case .succeeded: .success
            case .failed: .failure
            case .cancelled: .cancelled
            }
        if let verdict { #expect(try await bench.finish(run, verdict) == .written) }
        return run
    }

    /// Tries to bring an event about with the store's own operation. Returns how it was refused, or nil: where nothing
    /// changes, the caller compares the events.
    private func attempt(
        _ event: JobEventType, in state: JobState, _ run: ClaimedRun, _ bench: Bench
    ) async throws -> String? {
        func finish(_ verdict: Verdict) async throws -> String? {
            let outcome = try await bench.finish(run, verdict)
            return outcome == .written ? nil : "\(outcome)"
        }
        switch event {
        case .enqueued:
            let again = JobSpec(kind: "k", userID: "u", jobID: run.key.id)
            return await refusal { _ = try await bench.store.enqueue(NewJob(spec: again, now: .now)) }
        case .started:
            return try await bench.claim().contains { $0.key == run.key } ? nil : "it was not claimed"
        case .retryScheduled: return try await finish(.again())
        case .released: return try await finish(.released)
        case .succeeded: return try await finish(.success)
        case .failed: return try await finish(.failure)
        case .cancelled:
            if state == .running { return try await finish(.cancelled) }
            _ = try await bench.store.cancel(run.key.id, note: "why")
            return nil
        case .cancelRequested:
            // Of a waiting job the call brings about the event `cancelled`.
            if state != .pending { _ = try await bench.store.cancel(run.key.id, note: "why") }
            return nil
        case .retried: return await refusal { _ = try await bench.store.retry(run.key.id) }
        }
    }

    private func refusal(_ body: () async throws -> Void) async -> String? {
        do {
            try await body()
            return nil
        } catch {
            return "\(error)"
        }
    }

    @Test(arguments: JobState.allCases, JobEventType.allCases)
    func statementsDoWhatTheTableSays(state: JobState, event: JobEventType) async throws {
        try await Bench.with { bench in
            let run = try await job(in: state, bench)
            let number = run.key.number
            let before = try #require(try await bench.store.events(after: [number: 0])[number])
            #expect(before.last?.state == state)
            let refusal = try await attempt(event, in: state, run, bench)
            let after = try #require(try await bench.store.events(after: [number: 0])[number])
            let record = try await bench.job(run.key.id)
            #expect(record.state == after.last?.state && record.sequence == after.last?.sequence)
            #expect(bench.changes.events(of: run.key.id) == after)
            guard event.from.contains(state) else {
                #expect(after == before && record.state == state, "\(after.map(\.type))")
                return
            }
            #expect(refusal == nil)
            #expect(Array(after.dropLast()) == before)
            #expect(after.last?.type == event)
            #expect(record.state == event.to)
        }
    }

    @Test func jobBeginsWithTheTablesEvent() async throws {
        try await Bench.with { bench in
            let job = try await bench.enqueue()
            let events = try #require(try await bench.store.events(after: [job.number: 0])[job.number])
            let first = JobEventType.allCases.filter(\.from.isEmpty)
            #expect(events.map(\.type) == first && job.state == first.first?.to)
        }
    }
}
