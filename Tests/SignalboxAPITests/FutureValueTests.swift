import JobModel
import SignalboxProto
import JobStore
import Postgres
import GRPC
import Support
import Testing

@testable import SignalboxAPI

/// Calls that meet what a newer version has written.
@Suite(.timeLimit(.minutes(2))) struct FutureValueTests {
    private typealias Path = APIBench.Path

    private func script(_ sql: String, _ bench: APIBench) async throws {
        try await bench.database.run("script") { connection throws(PostgresError) in
            try connection.executeScript(sql)
        }
    }

    @Test func callsAboutAJobInAnUnknownStateFail() async throws {
        try await APIBench.with { bench in
            let job = try await bench.enqueue("a", as: "a")
            try await script("ALTER TYPE live_state ADD VALUE 'blocked'", bench)
            try await script("UPDATE live SET state = 'blocked'", bench)
            let other = try await bench.enqueue("b", as: "b")
            let id = ExactText(job.id.description)
            let watch = WatchRequest(jobs: [.init(jobID: id)])
            for status in [
                try await bench.status(Path.job + "GetJob", GetJobRequest(jobID: id), as: "a"),
                try await bench.status(Path.job + "ListJobs", ListJobsRequest(), as: "a"),
                try await bench.status(Path.job + "Cancel", CancelRequest(jobID: id), as: "a"),
                try await bench.status(Path.job + "Retry", RetryRequest(jobID: id), as: "a"),
                try await bench.status(Path.job + "Watch", watch, as: "a"),
                try await bench.status(
                    Path.job + "Watch", WatchRequest(filter: JobFilterMessage(userID: "a")), as: "a"),
            ] {
                #expect(status.code == .internalError)
            }
            let found = try await bench.call(
                Path.job + "GetJob", GetJobRequest(jobID: ExactText(other.id.description)), as: "b",
                GetJobResponse.self)
            #expect(found.job.state == .pending)
        }
    }

    /// A watch of a user, from the end of its snapshots on.
    private func watch(_ user: String, _ bench: APIBench) async throws -> ResponseStream.AsyncIterator {
        var watch = try await bench.watch(
            WatchRequest(filter: JobFilterMessage(userID: ExactText(user))), as: user)
        while let bytes = try await watch.next() {
            if case .snapshotsComplete = try WatchResponse.decode(bytes).event { break }
        }
        return watch
    }

    /// A watch of a user promises each event, so it does not go on without one.
    @Test func watchEndsAtAnEventOfUntype() async throws {
        try await APIBench.with { bench in
            try await script("ALTER TYPE event_type ADD VALUE 'unblocked'", bench)
            let job = try await bench.enqueue("a", as: "a")
            var watch = try await self.watch("a", bench)
            var other = try await self.watch("b", bench)
            try await script(
                """
                INSERT INTO history (number, sequence, type, attempt, at)
                SELECT number, 2, 'unblocked', 0, now() FROM live;
                UPDATE live SET sequence = 2;
                INSERT INTO change (node, jobs, lanes, sequences)
                SELECT 0, ARRAY[number], ARRAY[lane], ARRAY[2::bigint] FROM live
                """, bench)
            let status = await #expect(throws: Status.self) {
                while let bytes = try await watch.next() {
                    if case .lifecycle(let event) = try WatchResponse.decode(bytes).event {
                        #expect(event.jobID == job.id && event.sequence == 1)
                    }
                }
            }
            #expect(status?.code == .internalError)
            let next = try await bench.enqueue("b", as: "b")
            var received: JobID?
            while received == nil, let bytes = try await other.next() {
                if case .lifecycle(let event) = try WatchResponse.decode(bytes).event {
                    received = event.jobID
                }
            }
            #expect(received == next.id)
        }
    }
}
