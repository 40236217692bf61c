import JobModel
import Support
import Testing

@testable import JobService

/// Cancel and Retry of a job that must not have changed.
@Suite(.timeLimit(.minutes(2))) struct ExpectedSequenceTests {
    private func error(_ body: () async throws -> JobRecord) async -> ServiceError? {
        do {
            _ = try await body()
            return nil
        } catch {
            return error as? ServiceError
        }
    }

    @Test func otherSequenceIsAMismatch() async throws {
        try await ServiceBench.with { bench in
            let id = try await bench.enqueue("a").id
            #expect(
                await error { try await bench.jobs.cancel(id, expectedSequence: 2, by: .root) }
                    == .sequenceMismatch(id, expected: 2, actual: 1))
            #expect(try await bench.jobs.cancel(id, expectedSequence: 1, by: .root).state == .cancelled)
            #expect(
                await error { try await bench.jobs.retry(id, expectedSequence: 1, by: .root) }
                    == .sequenceMismatch(id, expected: 1, actual: 2))
            #expect(try await bench.jobs.retry(id, expectedSequence: 2, by: .root).sequence == 3)
            // Another user's job does not exist, whatever its sequence.
            #expect(
                await error { try await bench.jobs.cancel(id, expectedSequence: 9, by: .of("b")) }
                    == .notFound(id))
        }
    }

    @Test func negativeSequenceIsInvalid() async throws {
        try await ServiceBench.with { bench in
            let id = try await bench.enqueue("a").id
            for body in [
                { try await bench.jobs.cancel(id, expectedSequence: -1, by: .root) },
                { try await bench.jobs.retry(id, expectedSequence: -1, by: .root) },
            ] as [() async throws -> JobRecord] {
                let found = await error(body)
                #expect(found?.fieldViolations.map(\.field) == ["expected_sequence"])
            }
            #expect(try await bench.jobs.get(id, payload: false, for: .root).sequence == 1)
        }
    }
}
