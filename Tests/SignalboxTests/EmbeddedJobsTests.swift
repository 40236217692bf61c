import Foundation
import Logging
import SignalboxJobs
import TestDatabase
import Testing

@testable import Signalbox

/// A program that uses the jobs of its own server.
@Suite(.timeLimit(.minutes(2))) struct EmbeddedJobsTests {
    private struct Greet: JobHandler {
        static let kind = "greet"
        let timeout: Duration = .seconds(30)

        func run(_ input: String, context: JobContext) async throws -> String {
            guard input != "" else { throw JobFailure.permanent("no name", reason: "nameless") }
            context.log("greeting")
            context.report(step: 1, of: 2)
            return "Hello, \(input)!"
        }
    }

    private func withServer(_ body: @escaping @Sendable (any JobQueue) async throws -> Void) async throws {
        try await TestDatabase.withSchema { schema in
            var configuration = SignalboxConfiguration()
            configuration.port = 0
            configuration.nodeName = schema.name
            configuration.databaseURL = schema.url(applicationName: schema.name)
            configuration.concurrency = 2
            let server = try SignalboxServer(
                handlers: [Greet()], configuration: configuration,
                logger: Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() })
            let running = Task { try await server.run() }
            let result: Result<Void, any Error>
            do {
                result = .success(try await body(server.jobs))
            } catch {
                result = .failure(error)
            }
            running.cancel()
            try await running.value
            try result.get()
            let error = await #expect(throws: SignalboxError.self) { try await server.jobs.job(UUID()) }
            #expect(error?.code == .unavailable && error?.message == "the server has stopped")
        }
    }

    @Test func aJobIsEnqueuedWatchedAndRead() async throws {
        try await withServer { jobs in
            var request = try JobRequest(kind: "greet", userID: "ada", input: "Ada")
            request.labels = ["a": "b"]
            request.idempotencyKey = "once"
            let enqueued = try await jobs.enqueue(request)
            #expect(enqueued.isNew && enqueued.job.state == .pending && enqueued.job.labels == ["a": "b"])
            let id = enqueued.job.id
            #expect(try await jobs.result(of: id, as: String.self) == "Hello, Ada!")

            var watch = JobWatch.job(id)
            watch.includesLog = true
            var sequences: [Int] = []
            var lines: [String] = []
            var isCurrent = false
            for try await update in jobs.watch(watch) {
                switch update {
                case .snapshot(let job): #expect(job.state == .succeeded)
                case .event(let event): sequences.append(event.sequence)
                case .log(_, let log): lines += log.map(\.message)
                case .progress, .removed: break
                case .isCurrent: isCurrent = true
                }
            }
            #expect(sequences == [3] && lines == ["greeting"] && isCurrent)
            // From the first event on, none is left out.
            watch.sequences = [id: 1]
            sequences = []
            for try await case .event(let event) in jobs.watch(watch) { sequences.append(event.sequence) }
            #expect(sequences == [2, 3])

            let again = try await jobs.enqueue(request)
            #expect(!again.isNew && again.job.id == id && again.disposition == .sameRequest)
            let job = try await jobs.job(id, includingPayload: true)
            #expect(try job.payload?.decoded(as: String.self) == "Ada")
            #expect(job.attempts.map(\.outcome) == [.succeeded] && job.log.map(\.message) == ["greeting"])
            #expect(try await jobs.job(id).payload == nil)
            var attempts: [SignalboxJobs.Job.Attempt] = []
            for try await attempt in jobs.attempts(of: id) { attempts.append(attempt) }
            #expect(attempts == job.attempts && attempts.count == 1)
            var log: [SignalboxJobs.Job.LogLine] = []
            for try await line in jobs.logLines(of: id) { log.append(line) }
            #expect(log == job.log)
            for try await line in jobs.logLines(of: id, minLevel: .error) {
                Issue.record("\(line) has a lower level")
            }
            for try await line in jobs.logLines(of: id, afterLine: 1) {
                Issue.record("\(line) is not after 1")
            }
        }
    }

    @Test func jobsAreListedCancelledAndRetried() async throws {
        try await withServer { jobs in
            var later = try JobRequest(kind: "greet", userID: "ada", input: "Ada")
            later.due = .after(.seconds(3600))
            let ids = try await jobs.enqueue([later, later, later])
            #expect(ids.allSatisfy(\.isNew) && Set(ids.map(\.id)).count == 3)
            var filter = SignalboxJobs.JobFilter()
            filter.userID = "ada"
            filter.states = [.pending]
            var listed: [UUID] = []
            for try await job in jobs.jobs(filter, pageSize: 2) { listed.append(job.id) }
            #expect(listed == ids.map(\.id).reversed())

            let cancelled = try await jobs.cancel(listed[0], note: "too late")
            #expect(cancelled.state == .cancelled && cancelled.failure?.message == "too late")
            for call in [
                { [id = listed[0]] in try await jobs.cancel(id, note: "", expectedSequence: 0) },
                { [id = listed[0]] in try await jobs.retry(id, expectedSequence: 0) },
            ] as [@Sendable () async throws -> Job] {
                // On the wire 0 stands for any sequence.
                let error = await #expect(throws: SignalboxError.self) { try await call() }
                #expect(error?.code == .invalidArgument)
            }
            #expect(try await jobs.retry(listed[0]).state == .pending)

            let nameless = try await jobs.enqueue("greet", userID: "ada", input: "")
            let error = await #expect(throws: JobUnsuccessful.self) {
                try await jobs.result(of: nameless.job.id)
            }
            #expect(error?.job.failure?.reason == "nameless")
        }
    }

    @Test func errorsAreThoseOfAClient() async throws {
        try await withServer { jobs in
            let id = UUID()
            func error(_ body: () async throws -> Void) async throws -> SignalboxError {
                try await #require(throws: SignalboxError.self) { try await body() }
            }
            let missing = try await error { _ = try await jobs.job(id) }
            #expect(missing.code == .notFound && missing.jobID == id)
            let watch = try await error { for try await _ in jobs.watch(.job(id)) {} }
            #expect(watch.code == .notFound && watch.jobID == id)
            let kind = try await error { _ = try await jobs.enqueue("no.such", userID: "ada", input: 1) }
            #expect(kind.code == .failedPrecondition && kind.reason == "KIND_UNKNOWN")
            let none = try await error { _ = try await jobs.enqueue([]) }
            #expect(none.code == .invalidArgument && none.violations.map(\.field) == ["jobs"])
            let many = try await error {
                for try await _ in jobs.watch(.jobs((0...1000).map { _ in UUID() })) {}
            }
            #expect(many.code == .invalidArgument && many.violations.map(\.field) == ["jobs"])
        }
    }

    @Test func aWatchOfAUserSeesWhatComes() async throws {
        try await withServer { jobs in
            for try await update in jobs.watch(.user("ada", queue: "default")) {
                switch update {
                case .isCurrent: _ = try await jobs.enqueue("greet", userID: "ada", input: "Ada")
                case .event(let event):
                    guard event.state.isFinal else { continue }
                    #expect(event.kind == .succeeded && event.jobKind == "greet")
                    return
                case .snapshot, .progress, .log, .removed: break
                }
            }
            Issue.record("a watch of a user has ended by itself")
        }
    }
}
