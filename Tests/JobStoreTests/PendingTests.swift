import JobModel
import JobStore
import Support
import Testing

/// What of each user waits, as the quotas ask for it.
@Suite struct PendingTests {
    private func pending(
        _ bench: Bench, _ users: [String], jobsMax: Int = 1000, withBytes: Bool = true
    ) async throws -> [String: PendingAmount] {
        let found = try await bench.store.pending(of: users, jobsMax: jobsMax, withBytes: withBytes)
        return Dictionary(uniqueKeysWithValues: found.map { ($0.key.text, $0.value) })
    }

    @Test func whatWaitsInAllQueues() async throws {
        try await Bench.with { bench in
            let run = try await bench.start(JobSpec(kind: "k", userID: "a", payload: [1, 2, 3]))
            let large = [UInt8](repeating: 7, count: 100_000)
            for queue in ["p", "q"] {
                try await bench.enqueue(JobSpec(kind: "k", userID: "a", queue: queue, payload: large))
                try await bench.enqueue(
                    JobSpec(kind: "k", userID: "a", queue: queue, payload: [1], due: .after(.seconds(100))))
            }
            let gone = try await bench.enqueue(JobSpec(kind: "k", userID: "a", payload: [1, 2]))
            _ = try await bench.store.cancel(gone.id, note: "")
            try await bench.enqueue(JobSpec(kind: "k", userID: "b", payload: []))
            let wanted: [String: PendingAmount] = [
                "a": .init(jobs: 4, bytes: 200_002), "b": .init(jobs: 1, bytes: 0), "nobody": .zero,
            ]
            #expect(try await pending(bench, ["a", "b", "nobody"]) == wanted)
            #expect(
                try await pending(bench, ["a", "b"], withBytes: false)
                    == ["a": .init(jobs: 4, bytes: 0), "b": .init(jobs: 1, bytes: 0)])
            // One that is to be tried again waits once more.
            try await bench.finish(run, .again(after: .seconds(100)))
            #expect(try await pending(bench, ["a"]) == ["a": .init(jobs: 5, bytes: 200_005)])
            #expect(try await pending(bench, []) == [:])
        }
    }

    @Test func countedUpToABound() async throws {
        try await Bench.with { bench in
            for queue in ["p", "q"] {
                _ = try await bench.store.enqueueBatch(
                    (0..<300).map { _ in
                        NewJob(spec: JobSpec(kind: "k", userID: "a", queue: queue, payload: [1]), now: .now)
                    })
            }
            for (jobsMax, jobs) in [(10, 10), (300, 300), (450, 450), (601, 600)] {
                #expect(
                    try await pending(bench, ["a"], jobsMax: jobsMax) == ["a": .init(jobs: jobs, bytes: jobs)]
                )
            }
        }
    }
}
