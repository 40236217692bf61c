import JobModel
import JobStore
import Support
import Testing

@testable import JobService

/// What exceeds a quota is refused, with the time to wait.
@Suite(.timeLimit(.minutes(2))) struct UserQuotasTests {
    private func limits(_ change: (inout UserQuotas.Limits) -> Void) -> UserQuotas.Limits {
        var limits = UserQuotas.Limits()
        change(&limits)
        return limits
    }

    private func draft(_ user: ExactText, payload: String = "") -> JobSpecDraft {
        .of(user) { $0.payload = Array(payload.utf8) }
    }

    /// Nil: the jobs were added.
    private func enqueue(_ bench: ServiceBench, _ drafts: [JobSpecDraft]) async -> ServiceError? {
        do {
            if drafts.count == 1 {
                _ = try await bench.jobs.enqueue(drafts[0], by: .root)
            } else {
                _ = try await bench.jobs.enqueueBatch(drafts, by: .root)
            }
            return nil
        } catch {
            return error
        }
    }

    private func expectRefusal(
        _ error: ServiceError?, _ quota: Quota, user: ExactText = "a", waits: Bool = true
    ) {
        guard case .quotaExceeded(quota, user, let delay) = error else {
            Issue.record("not refused: \(error.map { "\($0)" } ?? "added")")
            return
        }
        #expect((delay != nil) == waits)
        if let delay { #expect(delay > .zero && delay <= .seconds(1)) }
    }

    @Test func offUnlessSet() async throws {
        try await ServiceBench.with { bench async throws in
            for _ in 0..<50 { #expect(await enqueue(bench, [draft("a")]) == nil) }
            let quotas = UserQuotas(store: bench.store, limits: UserQuotas.Limits())
            #expect(!quotas.limitsEnqueues && !quotas.limitsWatches)
            #expect(try quotas.openWatch(of: ["a"]) == nil)
        }
    }

    @Test func pendingJobs() async throws {
        try await ServiceBench.with(limits { $0.pendingJobsMax = 5 }) { bench async throws in
            #expect(await enqueue(bench, Array(repeating: draft("a"), count: 3)) == nil)
            // All or nothing, also where it is another user of the batch whose quota is exceeded.
            expectRefusal(
                await enqueue(bench, [draft("b")] + Array(repeating: draft("a"), count: 3)), .pendingJobs)
            expectRefusal(
                await enqueue(bench, Array(repeating: draft("a"), count: 6)), .pendingJobs, waits: false)
            for _ in 0..<2 { #expect(await enqueue(bench, [draft("a")]) == nil) }
            for _ in 0..<3 { expectRefusal(await enqueue(bench, [draft("a")]), .pendingJobs) }
            #expect(await enqueue(bench, [draft("b")]) == nil)
            #expect(try await bench.count("job WHERE user_id = 'a'") == 5)
            #expect(try await bench.count("job WHERE user_id = 'b'") == 1)
        }
    }

    /// A running job is not pending any more, also where this node has not heard of its start.
    @Test func roomIsFoundWhenThereIsSome() async throws {
        try await ServiceBench.with(limits { $0.pendingJobsMax = 2 }) { bench async throws in
            for _ in 0..<10 {
                #expect(await enqueue(bench, [draft("a"), draft("a")]) == nil)
                let runs = try await bench.store.claim(
                    ClaimRequest(slots: 10, kinds: bench.kinds, cursor: ClaimCursor(), defaultUserLimit: 100)
                ).runs
                #expect(runs.count == 2)
            }
        }
    }

    /// Many calls at once do not exceed it together.
    @Test func neverMoreThanTheQuota() async throws {
        try await ServiceBench.with(limits { $0.pendingJobsMax = 20 }) { bench async throws in
            let errors = await withTaskGroup(of: ServiceError?.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        await enqueue(
                            bench, Array(repeating: draft(number % 2 == 0 ? "a" : "b"), count: 1 + number % 3)
                        )
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            for error in errors.compactMap(\.self) {
                guard case .quotaExceeded(.pendingJobs, _, _) = error else { throw error }
            }
            for user in ["a", "b"] {
                let count = try await bench.count("job WHERE user_id = '\(user)'")
                #expect(count > 17 && count <= 20, "\(user): \(count)")
            }
        }
    }

    /// Another node counts the jobs that this one has added.
    @Test func overAllNodes() async throws {
        try await ServiceBench.with(limits { $0.pendingJobsMax = 3 }) { bench async throws in
            #expect(await enqueue(bench, Array(repeating: draft("a"), count: 3)) == nil)
            let other = UserQuotas(store: bench.store, limits: limits { $0.pendingJobsMax = 4 })
            let demand = UserQuotas.Demand("a", payloadBytes: 0)
            try await other.admit(demand)
            await #expect(throws: ServiceError.self) { try await other.admit(demand) }
            other.settle(demand, Result<Void, StoreError>.failure(.overloaded)) { true }
            #expect(try other.admitAtOnce(demand))
        }
    }

    @Test func pendingPayload() async throws {
        try await ServiceBench.with(limits { $0.pendingBytesMax = 10 }) { bench async throws in
            #expect(await enqueue(bench, [draft("a", payload: "12345678")]) == nil)
            expectRefusal(await enqueue(bench, [draft("a", payload: "123")]), .pendingBytes)
            #expect(await enqueue(bench, [draft("a", payload: "12")]) == nil)
            #expect(await enqueue(bench, [draft("a")]) == nil)
            expectRefusal(await enqueue(bench, [draft("a", payload: "1")]), .pendingBytes)
            expectRefusal(
                await enqueue(bench, [draft("a", payload: "12345678901")]), .pendingBytes, waits: false)
            #expect(try await bench.count("job") == 3)
        }
    }

    @Test func rate() async throws {
        try await ServiceBench.with(limits { $0.enqueuesPerSecond = 1 }) { bench async throws in
            // One a second fits: a slow machine may let several of them through, each after the next second.
            let deadline = ContinuousClock.now + .seconds(60)
            var status = await enqueue(bench, [draft("a")])
            #expect(status == nil)
            while status == nil, ContinuousClock.now < deadline {
                status = await enqueue(bench, [draft("a")])
            }
            expectRefusal(status, .rate)
            expectRefusal(await enqueue(bench, [draft("a"), draft("a")]), .rate, waits: false)
            #expect(await enqueue(bench, [draft("b")]) == nil)
            // A job that is refused for another reason uses up nothing.
            var bad = draft("c")
            bad.kind = "unknown"
            #expect(await enqueue(bench, [bad]) == .unknownKind("unknown", field: "job.kind"))
            #expect(await enqueue(bench, [draft("c")]) == nil)
        }
    }

    /// A job that is put back is pending again.
    @Test func retryCounts() async throws {
        try await ServiceBench.with(limits { $0.pendingJobsMax = 1 }) { bench async throws in
            let first = try await bench.enqueue("a").id
            _ = try await bench.jobs.cancel(first, by: .root)
            let second = try await bench.enqueue("a").id
            let error = await #expect(throws: ServiceError.self) {
                try await bench.jobs.retry(first, by: .root)
            }
            expectRefusal(error, .pendingJobs)
            _ = try await bench.jobs.cancel(second, by: .root)
            #expect(try await bench.count("live") == 0)
        }
    }
}
