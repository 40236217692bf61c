import Foundation
import GRPC
import JobModel
import Logging
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

    // MARK: A watch that the server cannot resume

    /// What the watch of the job gives when its token is of no use, and the requests of its connections.
    private func watchWithLostToken(
        _ loseToken: @escaping @Sendable (ResponseWriter) async throws -> Void
    ) async throws -> (words: [String], requests: [WatchRequest]) {
        let requests = Mutex<[WatchRequest]>([])
        let method = Method.serverStreaming(JobServiceMethod.watch) { bytes, _, writer in
            var violations: [FieldViolation] = []
            let request = try WatchRequest.decode(bytes, into: &violations)
            let count = requests.withLock { requests in
                requests.append(request)
                return requests.count
            }
            func write(_ event: WatchEvent, token: ExactText = "") async throws {
                try await writer.write(WatchResponse(event, resumeToken: token).encode())
            }
            switch count {
            case 1:
                try await write(.snapshot(Sample.job(.pending, sequence: 1)))
                try await write(.snapshotsComplete, token: "one")
                throw Status(.unavailable, "shutting down")
            case 2:
                try await loseToken(writer)
            default:
                try await write(.opened(resumed: false, heartbeatInterval: .seconds(15)))
                try await write(.lifecycle(Sample.event(.started, sequence: 2)))
                try await write(.lifecycle(Sample.event(.succeeded, sequence: 3)))
            }
        }
        let found = Mutex<[String]>([])
        try await FakeServer.with([method]) { port async throws in
            let words = try await words(client(port).watch(.job(Sample.id.uuid)))
            found.withLock { $0 = words }
        }
        return (found.withLock { $0 }, requests.withLock { $0 })
    }

    /// The snapshot of the second connection would hide the start of the job.
    @Test func aWatchThatIsNotResumedLeavesNoEventOut() async throws {
        let (words, requests) = try await watchWithLostToken { writer in
            let opened = WatchEvent.opened(resumed: false, heartbeatInterval: .seconds(15))
            try await writer.write(WatchResponse(opened).encode())
            try await writer.write(WatchResponse(.snapshot(Sample.job(.running, sequence: 2))).encode())
            try await FakeServer.waitForCancellation()
        }
        #expect(words == ["snapshot pending 1", "current", "started 2", "succeeded 3"])
        #expect(requests.map(\.resumeToken) == ["", "one", ""])
        #expect(requests.last?.jobs == [.init(jobID: "\(Sample.id)", afterSequence: 1)])
    }

    @Test func aWatchGoesOnWithoutARefusedToken() async throws {
        let (words, requests) = try await watchWithLostToken { _ in
            let violation = StatusDetails.Violation(
                field: "resume_token", reason: "OTHER_REQUEST", description: "is of another request")
            let details = StatusDetails(code: 3, message: "", badRequest: [violation])
            throw Status(.invalidArgument, "the request is wrong", details: details.encode())
        }
        #expect(words == ["snapshot pending 1", "current", "started 2", "succeeded 3"])
        #expect(requests.map(\.resumeToken) == ["", "one", ""])
    }

    /// The call is accepted and nothing comes, not even the message that opens a watch.
    @Test func aSilentConnectionIsMadeAgain() async throws {
        let method = Method.serverStreaming(JobServiceMethod.watch) { _, _, _ in
            try await FakeServer.waitForCancellation()
        }
        try await FakeServer.with([method]) { port async throws in
            let client = try await Client.connect(
                host: "127.0.0.1", port: port, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            )
            let stream = WatchStream(
                try await client.serverStreaming(
                    JobServiceMethod.watch, WatchSession(.jobs([Sample.id])).bytes),
                silence: .milliseconds(30))
            let error = try await #require(throws: Status.self) { _ = try await stream.next() }
            #expect(error.code == .unavailable && error.message.contains("has sent nothing for"))
            await client.close()
        }
    }

    // MARK: The end of a job

    /// A retry returns the job to its queue between the end of the watch and the look-up.
    @Test func aJobThatIsRetriedIsWaitedForAgain() async throws {
        let gets = Mutex(0)
        let get = Method.unary(JobServiceMethod.getJob) { _, _ in
            let isFirst = gets.withLock { count in
                count += 1
                return count == 1
            }
            let job = isFirst ? Sample.job(.pending, sequence: 4) : Sample.job(.succeeded, sequence: 6)
            return GetJobResponse(job: job, includePayload: false).encode()
        }
        try await FakeServer.with([Self.cutWatch(.failed), get]) { port async throws in
            #expect(try await client(port).finalJob(Sample.id.uuid).state == .succeeded)
        }
        #expect(gets.withLock { $0 } == 2)
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

    private let heartbeat = WatchEvent.heartbeat(at: Sample.start)

    private func retry(renewsToken: Bool = false) -> WatchRetry {
        WatchRetry(.init(), patience: .seconds(300), renewsToken: renewsToken, now: now)
    }

    @Test func aWatchIsPatient() {
        var retry = retry()
        let status = Status(.unavailable)
        #expect(retry.delay(after: status, now: now + .seconds(299), random: 0) == .milliseconds(50))
        #expect(retry.delay(after: status, now: now + .seconds(300), random: 0) == nil)
        retry.receives(heartbeat, now: now + .seconds(300))
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
            retry.receives(heartbeat, now: now + .seconds(second))
            #expect(retry.delay(after: Status(.unavailable), now: now + .seconds(second)) != nil)
            #expect(retry.delay(after: status, now: now + .seconds(second)) != nil)
        }
        retry.receives(heartbeat, now: now + .seconds(400))
        #expect(retry.delay(after: status, now: now + .seconds(400)) == nil)
        #expect(retry.delay(after: Status(.unavailable), now: now + .seconds(400)) != nil)
        let event = WatchEvent.lifecycle(Sample.event(.started, sequence: 2))
        retry.receives(event, now: now + .seconds(400))
        #expect(retry.delay(after: status, now: now + .seconds(500)) != nil)
        retry.receives(heartbeat, now: now + .seconds(799))
        #expect(retry.delay(after: status, now: now + .seconds(799)) != nil)
        #expect(retry.delay(after: status, now: now + .seconds(800)) == nil)
    }

    /// Each connection begins so, also one that fails at once.
    @Test func theBeginningOfAConnectionDoesNotResetTheDelays() {
        var retry = retry()
        let status = Status(.unavailable)
        for expected in [50, 100, 200] {
            #expect(retry.delay(after: status, now: now, random: 0) == .milliseconds(expected))
            retry.connects()
            retry.receives(.opened(resumed: false, heartbeatInterval: .seconds(15)), now: now + .seconds(200))
            retry.receives(.snapshot(Sample.job()), now: now)
            retry.receives(.snapshotsComplete, now: now)
        }
        retry.receives(.opened(resumed: false, heartbeatInterval: .seconds(15)), now: now + .seconds(200))
        #expect(retry.delay(after: status, now: now + .seconds(300)) == nil)
        retry.receives(.progress(Sample.id, attempt: 1, Sample.progress(0.5)), now: now)
        #expect(retry.delay(after: status, now: now, random: 0) == .milliseconds(50))
    }

    @Test func theServerMayAskForALongerDelay() {
        func delay(asked: Duration?) -> Duration? {
            let details = StatusDetails(code: 14, message: "", retryDelay: asked)
            var retry = retry()
            return retry.delay(
                after: Status(.unavailable, "", details: details.encode()), now: now, random: 0)
        }
        #expect(delay(asked: nil) == .milliseconds(50))
        #expect(delay(asked: .milliseconds(1)) == .milliseconds(50))
        #expect(delay(asked: .seconds(20)) == .seconds(20))
        #expect(delay(asked: .seconds(2000)) == .seconds(60))
    }

    @Test func oneWatchTooManyIsRefusedAtOnce() {
        var retry = retry()
        #expect(retry.delay(after: Status(.resourceExhausted), now: now) == nil)
        retry.receives(heartbeat, now: now)
        #expect(retry.delay(after: Status(.resourceExhausted), now: now) != nil)
    }

    @Test(arguments: [true, false]) func theEndOfATokenIsNotThatOfAWatchThatRenewsIt(_ renews: Bool) {
        var retry = retry(renewsToken: renews)
        let status = Status(.unauthenticated)
        #expect(retry.delay(after: status, now: now) == nil)
        retry.receives(heartbeat, now: now)
        #expect((retry.delay(after: status, now: now) != nil) == renews)
        retry.connects()
        #expect(retry.delay(after: status, now: now) == nil)
    }
}

extension WatchSession {
    /// The first request.
    fileprivate var bytes: ByteBuffer {
        var session = self
        return session.request().encode()
    }
}
