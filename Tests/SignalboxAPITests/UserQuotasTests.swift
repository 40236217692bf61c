import JobModel
import SignalboxProto
import JobStore
import GRPC
import Support
import Testing

@testable import SignalboxAPI

/// What is over a quota is refused, and told how long to wait.
@Suite(.timeLimit(.minutes(2))) struct UserQuotasTests {
    private typealias Path = APIBench.Path

    private func limits(_ change: (inout UserQuotas.Limits) -> Void) -> UserQuotas.Limits {
        var limits = UserQuotas.Limits()
        change(&limits)
        return limits
    }

    private func draft(_ user: String, payload: String = "") -> JobSpecDraft {
        var draft = JobSpecDraft()
        draft.kind = "k"
        draft.userID = ExactText(user)
        draft.payload = Array(payload.utf8)
        return draft
    }

    private func enqueue(_ bench: APIBench, _ drafts: [JobSpecDraft]) async throws -> Status {
        if drafts.count == 1 {
            return try await bench.status(Path.job + "Enqueue", EnqueueRequest(job: drafts[0]), as: "root")
        }
        return try await bench.status(
            Path.job + "EnqueueBatch", EnqueueBatchRequest(jobs: drafts), as: "root")
    }

    private func expectRefusal(_ status: Status, _ setting: String, user: String = "a", waits: Bool = true)
        throws
    {
        #expect(status.code == .resourceExhausted && status.message.contains("(\(setting))"), "\(status)")
        let details = try status.decodedDetails
        #expect(details.quota?.subject == "user:\(user)")
        if waits {
            let delay = try #require(details.retryDelay)
            #expect(delay > .zero && delay <= .seconds(1))
        } else {
            #expect(details.retryDelay == nil)
        }
    }

    @Test func offUnlessSet() async throws {
        try await APIBench.with { bench async throws in
            for _ in 0..<50 { #expect(try await enqueue(bench, [draft("a")]).code == .ok) }
            let quotas = UserQuotas(store: bench.store, limits: UserQuotas.Limits())
            #expect(!quotas.limitsEnqueues && !quotas.limitsWatches)
            #expect(try quotas.openWatch(of: ["a"]) == nil)
        }
    }

    @Test func pendingJobs() async throws {
        let setting = "max-pending-per-user"
        try await APIBench.with(limits: limits { $0.pendingJobsMax = 5 }) { bench in
            #expect(try await enqueue(bench, Array(repeating: draft("a"), count: 3)).code == .ok)
            // All or nothing, also where another one of the batch is full.
            try expectRefusal(
                await enqueue(bench, [draft("b")] + Array(repeating: draft("a"), count: 3)), setting)
            try expectRefusal(
                await enqueue(bench, Array(repeating: draft("a"), count: 6)), setting, waits: false)
            for _ in 0..<2 { #expect(try await enqueue(bench, [draft("a")]).code == .ok) }
            for _ in 0..<3 { try expectRefusal(await enqueue(bench, [draft("a")]), setting) }
            #expect(try await enqueue(bench, [draft("b")]).code == .ok)
            #expect(try await bench.count("job WHERE user_id = 'a'") == 5)
            #expect(try await bench.count("job WHERE user_id = 'b'") == 1)
        }
    }

    /// What runs does not wait any more, and this node need not hear of it.
    @Test func roomIsFoundWhenThereIsSome() async throws {
        try await APIBench.with(limits: limits { $0.pendingJobsMax = 2 }) { bench in
            for _ in 0..<10 {
                #expect(try await enqueue(bench, [draft("a"), draft("a")]).code == .ok)
                let runs = try await bench.store.claim(
                    ClaimRequest(slots: 10, kinds: bench.kinds, cursor: ClaimCursor(), defaultUserLimit: 100)
                ).runs
                #expect(runs.count == 2)
            }
        }
    }

    /// However many calls come at once.
    @Test func neverMoreThanTheQuota() async throws {
        try await APIBench.with(limits: limits { $0.pendingJobsMax = 20 }) { bench in
            let codes = try await withThrowingTaskGroup(of: Status.Code.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        try await enqueue(
                            bench, Array(repeating: draft(number % 2 == 0 ? "a" : "b"), count: 1 + number % 3)
                        ).code
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(codes.allSatisfy { $0 == .ok || $0 == .resourceExhausted })
            for user in ["a", "b"] {
                let count = try await bench.count("job WHERE user_id = '\(user)'")
                #expect(count > 17 && count <= 20, "\(user): \(count)")
            }
        }
    }

    /// Another node counts what is there.
    @Test func overAllNodes() async throws {
        try await APIBench.with(limits: limits { $0.pendingJobsMax = 3 }) { bench in
            #expect(try await enqueue(bench, Array(repeating: draft("a"), count: 3)).code == .ok)
            let other = UserQuotas(store: bench.store, limits: limits { $0.pendingJobsMax = 4 })
            let demand = UserQuotas.Demand("a", payloadBytes: 0)
            try await other.admit(demand)
            await #expect(throws: Status.self) { try await other.admit(demand) }
            other.settle(demand, wereAdded: false)
            #expect(try other.admitAtOnce(demand))
        }
    }

    @Test func pendingPayload() async throws {
        let setting = "max-pending-payload-per-user"
        try await APIBench.with(limits: limits { $0.pendingBytesMax = 10 }) { bench in
            #expect(try await enqueue(bench, [draft("a", payload: "12345678")]).code == .ok)
            try expectRefusal(await enqueue(bench, [draft("a", payload: "123")]), setting)
            #expect(try await enqueue(bench, [draft("a", payload: "12")]).code == .ok)
            #expect(try await enqueue(bench, [draft("a")]).code == .ok)
            try expectRefusal(await enqueue(bench, [draft("a", payload: "1")]), setting)
            try expectRefusal(
                await enqueue(bench, [draft("a", payload: "12345678901")]), setting, waits: false)
            // One that was there before adds nothing, once it is known.
            #expect(try await bench.count("job") == 3)
        }
    }

    @Test func rate() async throws {
        let setting = "enqueue-rate-per-user"
        try await APIBench.with(limits: limits { $0.enqueuesPerSecond = 1 }) { bench in
            // One a second fits: a slow machine may let several of them through, each after the next second.
            let deadline = ContinuousClock.now + .seconds(60)
            var status = try await enqueue(bench, [draft("a")])
            #expect(status.code == .ok)
            while status.code == .ok, ContinuousClock.now < deadline {
                status = try await enqueue(bench, [draft("a")])
            }
            try expectRefusal(status, setting)
            try expectRefusal(await enqueue(bench, [draft("a"), draft("a")]), setting, waits: false)
            #expect(try await enqueue(bench, [draft("b")]).code == .ok)
            // What is wrong, or not allowed, uses up nothing.
            var bad = draft("c")
            bad.kind = "unknown"
            #expect(try await enqueue(bench, [bad]).code == .invalidArgument)
            #expect(try await enqueue(bench, [draft("c")]).code == .ok)
        }
    }

    /// A job that is put back waits again.
    @Test func retryCounts() async throws {
        try await APIBench.with(limits: limits { $0.pendingJobsMax = 1 }) { bench in
            let first = try await bench.enqueue("a", as: "root").id.description
            let call = { (method: String, id: String) in
                try await bench.status(Path.job + method, CancelRequest(jobID: ExactText(id)), as: "root")
            }
            #expect(try await call("Cancel", first).code == .ok)
            let second = try await bench.enqueue("a", as: "root").id.description
            try expectRefusal(await call("Retry", first), "max-pending-per-user")
            #expect(try await call("Cancel", second).code == .ok)
            #expect(try await bench.count("live") == 0)
        }
    }

    @Test func watches() async throws {
        let setting = "max-watches-per-user"
        try await APIBench.with(limits: limits { $0.watchesMax = 2 }) { bench in
            let jobs = [
                try await bench.enqueue("a", as: "root").id, try await bench.enqueue("b", as: "root").id,
            ].map { WatchRequest.Watched(jobID: "\($0)") }
            let (ofUser, ofBoth, ofQueue) = (
                WatchRequest(userID: "a"), WatchRequest(jobs: jobs), WatchRequest(queue: "default")
            )
            var first = try await bench.watch(ofUser, as: "root")
            _ = try await first.next()
            do {
                var second = try await bench.watch(ofBoth, as: "root")
                _ = try await second.next()
                for request in [ofUser, ofBoth, WatchRequest(jobs: [jobs[0]])] {
                    try expectRefusal(await bench.status(Path.job + "Watch", request, as: "root"), setting)
                }
                // A queue's is of those to whom the caller is limited.
                try expectRefusal(await bench.status(Path.job + "Watch", ofQueue, as: "a"), setting)
                try expectRefusal(await bench.status(Path.job + "Watch", ofQueue, as: "ab"), setting)
                for name in ["b", "root"] {
                    #expect(try await bench.status(Path.job + "Watch", ofQueue, as: name).code == .ok)
                }
                withExtendedLifetime(second) {}
            }
            withExtendedLifetime(first) {}
        }
    }

    /// One that is over, or did not begin, does not count.
    @Test func watchesThatAreOver() async throws {
        try await APIBench.with(limits: limits { $0.watchesMax = 1 }) { bench in
            let job = try await bench.enqueue("a", as: "root").id.description
            _ = try await bench.status(Path.job + "Cancel", CancelRequest(jobID: ExactText(job)), as: "root")
            let tooFar = WatchRequest(jobs: [.init(jobID: ExactText(job), afterSequence: 99)])
            for _ in 0..<5 {
                #expect(try await bench.status(Path.job + "Watch", tooFar, as: "root").code == .outOfRange)
                // All of it is final: it ends by itself, after the last message, when the stream is closed on both sides.
                var watch = try await bench.watch(
                    WatchRequest(jobs: [.init(jobID: ExactText(job))]), as: "root")
                while try await watch.next() != nil {}
            }
        }
    }
}
