import Foundation
import GRPC
import JobModel
import NIOCore
import SignalboxJobs
import SignalboxProto
import Support
import Synchronization
import Testing

@testable import SignalboxClient

/// Watches of the client against a server that answers as the test says.
@Suite(.timeLimit(.minutes(2))) struct WatchTests {
    private func client(
        _ port: Int, _ change: (inout SignalboxClient.Configuration) -> Void = { _ in }
    ) throws -> SignalboxClient {
        var configuration = SignalboxClient.Configuration(port: port)
        configuration.retry = .init(initialDelay: .milliseconds(1), maxDelay: .milliseconds(1))
        // The machine may be slow; the test's own limit ends it.
        configuration.timeout = .seconds(600)
        change(&configuration)
        return try SignalboxClient(configuration)
    }

    private func words(_ updates: JobUpdates) async throws -> [String] {
        var words: [String] = []
        for try await update in updates {
            switch update {
            case .snapshot(let job): words.append("snapshot \(job.state.rawValue) \(job.sequence)")
            case .event(let event): words.append("\(event.kind?.rawValue ?? "unknown") \(event.sequence)")
            case .progress(_, let attempt, let progress):
                words.append("progress \(attempt) \(progress.fraction ?? -1)")
            case .log(_, let lines): words += lines.map { "\($0.level?.rawValue ?? "unknown") \($0.message)" }
            case .removed: words.append("removed")
            case .isCurrent: words.append("current")
            }
        }
        return words
    }

    /// The job's watch is cut after its second event; what the third request gives ends it.
    private static func cutWatch(_ last: JobEventType) -> Method {
        Method.serverStreaming(JobServiceMethod.watch) { bytes, _, writer in
            var violations: [FieldViolation] = []
            let request = try WatchRequest.decode(bytes, into: &violations)
            switch request.jobs[0].afterSequence {
            case 0:
                let heartbeat = WatchResponse(.snapshotsComplete)
                try await writer.write(WatchResponse(.snapshot(Sample.job(.pending, sequence: 1))).encode())
                try await writer.write(heartbeat.encode())
                try await writer.write(
                    WatchResponse(.lifecycle(Sample.event(.started, sequence: 2))).encode())
                throw Status(.unavailable, "shutting down")
            case 2:
                let progress = WatchResponse(.progress(Sample.id, attempt: 1, Sample.progress(0.5)))
                try await writer.write(progress.encode())
                if request.includeLog {
                    let line = LogLine(
                        number: 1, at: Sample.start, attempt: 1, level: .warning, message: "hm")
                    try await writer.write(WatchResponse(.log(Sample.id, [line])).encode())
                }
                try await writer.write(WatchResponse(.lifecycle(Sample.event(last, sequence: 3))).encode())
            default:
                throw Status(.internalError, "asked after \(request.jobs[0].afterSequence)")
            }
        }
    }

    private static let get = Method.unary(JobServiceMethod.getJob) { _, _ in
        let result = JobResult(data: Array(#""Hello""#.utf8), contentType: "application/json")
        return GetJobResponse(
            job: Sample.job(.succeeded, sequence: 3, result: result), includePayload: false
        ).encode()
    }

    @Test func aWatchThatIsCutGoesOn() async throws {
        try await FakeServer.with([Self.cutWatch(.succeeded)]) { port async throws in
            var watch = JobWatch.job(Sample.id.uuid)
            watch.includesLog = true
            let words = try await words(client(port).watch(watch))
            #expect(
                words == [
                    "snapshot pending 1", "current", "started 2", "progress 1 0.5", "warning hm",
                    "succeeded 3",
                ])
        }
    }

    @Test func aLaterWatchGoesOnWhereAnotherWas() async throws {
        try await FakeServer.with([Self.cutWatch(.succeeded)]) { port async throws in
            var watch = JobWatch.job(Sample.id.uuid)
            watch.sequences = [Sample.id.uuid: 2]
            #expect(try await words(client(port).watch(watch)) == ["progress 1 0.5", "succeeded 3"])
        }
    }

    @Test func aJobThatEndedAtTheGivenSequenceIsLookedUp() async throws {
        let watch = Method.serverStreaming(JobServiceMethod.watch) { _, _, _ in }
        try await FakeServer.with([watch, Self.get]) { port async throws in
            var watch = JobWatch.job(Sample.id.uuid)
            watch.sequences = [Sample.id.uuid: 3]
            #expect(try await words(client(port).watch(watch)) == [])
        }
    }

    @Test func theResultIsReadWhenTheJobIsFinal() async throws {
        try await FakeServer.with([Self.cutWatch(.succeeded), Self.get]) { port async throws in
            #expect(try await client(port).result(of: Sample.id.uuid, as: String.self) == "Hello")
        }
    }

    @Test func aJobWithoutSuccessHasNoResult() async throws {
        let get = Method.unary(JobServiceMethod.getJob) { _, _ in
            GetJobResponse(job: Sample.job(.failed, sequence: 3), includePayload: false).encode()
        }
        try await FakeServer.with([Self.cutWatch(.failed), get]) { port async throws in
            let error = try await #require(throws: JobUnsuccessful.self) {
                try await client(port).result(of: Sample.id.uuid)
            }
            #expect(
                error.job.failure?.cause == .handlerPermanent && error.job.failure?.message == "no such voice"
            )
            #expect("\(error)" == "job \(Sample.id) is failed (handlerPermanent: no such voice)")
        }
    }

    @Test func aJobThatTakesLongerIsNotWaitedFor() async throws {
        let watch = Method.serverStreaming(JobServiceMethod.watch) { _, _, writer in
            try await writer.write(WatchResponse(.snapshot(Sample.job())).encode())
            try await FakeServer.waitForCancellation()
        }
        try await FakeServer.with([watch]) { port async throws in
            let client = try client(port)
            let error = try await #require(throws: SignalboxError.self) {
                try await client.finalJob(Sample.id.uuid, timeout: .milliseconds(50))
            }
            #expect(error.code == .deadlineExceeded && error.jobID == Sample.id.uuid)
        }
    }

    @Test func aWatchOfNoJobIsNotTriedAgain() async throws {
        let count = Mutex(0)
        let method = Method.serverStreaming(JobServiceMethod.watch) { _, _, _ in
            count.withLock { $0 += 1 }
            throw Status(.notFound, "no such job")
        }
        try await FakeServer.with([method]) { port async throws in
            let error = try await #require(throws: SignalboxError.self) {
                _ = try await words(client(port).watch(.job(Sample.id.uuid)))
            }
            #expect(error.code == .notFound)
        }
        #expect(count.withLock { $0 } == 1)
    }

    @Test func aWatchThatIsDroppedIsCancelled() async throws {
        let (ends, end) = AsyncStream<Void>.makeStream()
        let watch = Method.serverStreaming(JobServiceMethod.watch) { bytes, _, writer in
            var violations: [FieldViolation] = []
            let request = try WatchRequest.decode(bytes, into: &violations)
            #expect(request.filter?.userID == "ada" && request.filter?.queue == "q")
            try await writer.write(WatchResponse(.snapshot(Sample.job())).encode())
            do {
                try await FakeServer.waitForCancellation()
            } catch {
                end.yield()
                throw error
            }
        }
        try await FakeServer.with([watch]) { port async throws in
            for try await _ in try client(port).watch(.user("ada", queue: "q")) { break }
            for await _ in ends { break }
        }
    }

    // MARK: A watch that the server ends again and again

    /// - Parameter answer: what the watch brings on a connection, by its number from 1, before it ends with INTERNAL.
    /// - Returns: the updates until the watch ended by itself; with the clock moving on by a minute each time that it is
    ///   read, which is at each message and each error.
    private func endedWatch(
        _ answer: @escaping @Sendable (_ connection: Int) -> WatchEvent
    ) async throws -> (connections: Int, updates: Int, error: SignalboxError?) {
        let count = Mutex(0)
        let method = Method.serverStreaming(JobServiceMethod.watch) { _, _, writer in
            let connection = count.withLock { count in
                count += 1
                return count
            }
            try await writer.write(WatchResponse(answer(connection)).encode())
            throw Status(.internalError, "an event that cannot be read")
        }
        let updates = Mutex(0)
        let failure = Mutex<SignalboxError?>(nil)
        try await FakeServer.with([method]) { port async throws in
            var configuration = SignalboxClient.Configuration(port: port)
            configuration.retry = .init(initialDelay: .milliseconds(1), maxDelay: .milliseconds(1))
            configuration.watchPatience = .seconds(300)
            let caller = ClientCaller(
                connector: Connector(configuration), configuration: configuration, timeout: .seconds(600))
            let minutes = Mutex(0)
            let start = ContinuousClock.now
            let watch = RemoteWatch(.job(Sample.id.uuid), caller) {
                minutes.withLock { minutes in
                    minutes += 1
                    return start + .seconds(60 * minutes)
                }
            }
            do {
                while try await watch.next() != nil { updates.withLock { $0 += 1 } }
            } catch let error as SignalboxError {
                failure.withLock { $0 = error }
            }
        }
        return (count.withLock { $0 }, updates.withLock { $0 }, failure.withLock { $0 })
    }

    /// Each connection brings a message, so the server is never silent for long, and the watch still gets nowhere.
    @Test func aWatchThatFailsAgainAndAgainEnds() async throws {
        let ended = try await endedWatch { _ in .snapshot(Sample.job(.pending, sequence: 1)) }
        // It connects while less than five minutes have passed since the first error, which is two minutes a connection.
        #expect(ended.connections == 4 && ended.error?.code == .internalError)
    }

    @Test func aWatchThatGetsOnAfterErrorsGoesOn() async throws {
        let ended = try await endedWatch { connection in
            connection < 20
                ? .lifecycle(Sample.event(.retryScheduled, sequence: Int64(connection)))
                : .lifecycle(Sample.event(.succeeded, sequence: 20))
        }
        #expect(ended.connections == 20 && ended.updates == 20 && ended.error == nil)
    }

    // MARK: When a watch connects again

    private let now = ContinuousClock.now

    private func retry(renewsToken: Bool = false) -> WatchRetry {
        WatchRetry(.init(), patience: .seconds(300), renewsToken: renewsToken, now: now)
    }

    @Test func aWatchIsPatient() {
        var retry = retry()
        let status = Status(.unavailable)
        #expect(retry.delay(after: status, now: now + .seconds(299), random: 0) == .milliseconds(50))
        #expect(retry.delay(after: status, now: now + .seconds(300), random: 0) == nil)
        retry.receives(now: now + .seconds(300))
        #expect(retry.delay(after: status, now: now + .seconds(599), random: 0) == .milliseconds(50))
        #expect(retry.delay(after: Status(.notFound), now: now, random: 0) == nil)
    }

    @Test(arguments: [Status(.internalError), Status(.unknown)])
    func errorsOfTheServerWithoutAnEventEndAWatch(_ status: Status) {
        var retry = retry()
        #expect(retry.delay(after: status, now: now + .seconds(100)) != nil)
        for second in [150, 399] {
            // Neither a message that is no event nor a lost connection makes it count anew.
            retry.connects()
            retry.receives(now: now + .seconds(second))
            #expect(retry.delay(after: Status(.unavailable), now: now + .seconds(second)) != nil)
            #expect(retry.delay(after: status, now: now + .seconds(second)) != nil)
        }
        retry.receives(now: now + .seconds(400))
        #expect(retry.delay(after: status, now: now + .seconds(400)) == nil)
        #expect(retry.delay(after: Status(.unavailable), now: now + .seconds(400)) != nil)
        retry.progresses()
        #expect(retry.delay(after: status, now: now + .seconds(500)) != nil)
        retry.receives(now: now + .seconds(799))
        #expect(retry.delay(after: status, now: now + .seconds(799)) != nil)
        #expect(retry.delay(after: status, now: now + .seconds(800)) == nil)
    }

    @Test func oneWatchTooManyIsRefusedAtOnce() {
        var retry = retry()
        #expect(retry.delay(after: Status(.resourceExhausted), now: now) == nil)
        retry.receives(now: now)
        #expect(retry.delay(after: Status(.resourceExhausted), now: now) != nil)
    }

    @Test(arguments: [true, false]) func theEndOfATokenIsNotThatOfAWatchThatRenewsIt(_ renews: Bool) {
        var retry = retry(renewsToken: renews)
        let status = Status(.unauthenticated)
        #expect(retry.delay(after: status, now: now) == nil)
        retry.receives(now: now)
        #expect((retry.delay(after: status, now: now) != nil) == renews)
        retry.connects()
        #expect(retry.delay(after: status, now: now) == nil)
    }
}
