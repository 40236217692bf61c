import GRPC
import JobModel
import JobService
import JobStore
import NIOCore
import Postgres
import SignalboxProto
import Support
import TestDatabase
import Testing

@testable import SignalboxAPI

/// An Enqueue that has to wait for a lookup.
@Suite(.timeLimit(.minutes(2))) struct EnqueueTests {
    private typealias Path = APIBench.Path

    private func request(_ user: String) -> EnqueueRequest {
        var draft = JobSpecDraft()
        draft.kind = "k"
        draft.userID = ExactText(user)
        return EnqueueRequest(job: draft)
    }

    /// The client has gone while the database is asked about the user's quota.
    @Test func aCallThatIsCancelledWhileItWaitsAddsNothing() async throws {
        var limits = UserQuotas.Limits()
        limits.pendingJobsMax = 10
        try await APIBench.with(limits: limits) { bench in
            let lock = try Connection(bench.schema.connectionConfiguration())
            try lock.executeScript("BEGIN; LOCK TABLE live IN ACCESS EXCLUSIVE MODE")
            let call = Task {
                try await bench.client.unary(
                    Path.job + "Enqueue", request("a").encode(), metadata: ["authorization": "a"])
            }
            let waits = "pg_locks WHERE NOT granted AND relation = 'live'::regclass"
            while try await bench.count(waits) == 0 {}
            call.cancel()
            await #expect(throws: (any Error).self) { try await call.value }
            // The server has read the cancellation when it answers what was sent after it.
            #expect(try await bench.status("/none", request("a"), as: "a").code == .unimplemented)
            try lock.executeScript("COMMIT")
            // It is answered after what waited before it.
            try await bench.enqueue("b", as: "b")
            #expect(try await bench.count("job WHERE user_id = 'a'") == 0)
            #expect(try await bench.count("job WHERE user_id = 'b'") == 1)
        }
    }

    @Test func aCallThatWaitsForALookupIsAnswered() async throws {
        var limits = UserQuotas.Limits()
        limits.pendingJobsMax = 1
        try await APIBench.with(limits: limits) { bench in
            #expect(try await bench.enqueue("a", as: "a").state == .pending)
            let refused = try await bench.status(Path.job + "Enqueue", request("a"), as: "a")
            #expect(refused.code == .resourceExhausted)
        }
    }
}
