import Foundation
import GRPC
import JobModel
import SignalboxProto
import Support
import Testing

@testable import SignalboxClient

@Suite struct WatchSessionTests {
    @Test func aNamedJobGoesOnAfterTheLastEvent() {
        var session = WatchSession(.jobs([Sample.id]))
        #expect(session.request().jobs == [.init(jobID: "\(Sample.id)")])
        #expect(session.take(.snapshot(Sample.job(.pending, sequence: 1))) != nil)
        let started = WatchEvent.lifecycle(Sample.event(.started, sequence: 2))
        #expect(session.take(started) == started)
        #expect(session.take(started) == nil)
        #expect(session.request().jobs == [.init(jobID: "\(Sample.id)", afterSequence: 2)])
        #expect(!session.isOver)
        #expect(session.take(.lifecycle(Sample.event(.failed, sequence: 3))) != nil)
        #expect(session.isOver)
        #expect(session.hasFailures)
    }

    @Test func aFinalJobIsOverWithItsLastEvent() {
        var session = WatchSession(.jobs([Sample.id]))
        _ = session.request()
        #expect(session.take(.snapshot(Sample.job(.succeeded, sequence: 3))) != nil)
        // The event has the result; a connection that is lost before it begins there.
        #expect(!session.isOver)
        #expect(session.request().jobs == [.init(jobID: "\(Sample.id)", afterSequence: 2)])
        let last = WatchEvent.lifecycle(Sample.event(.succeeded, sequence: 3))
        #expect(session.take(last) == last)
        #expect(session.take(last) == nil)
        #expect(session.isOver)
        #expect(!session.hasFailures)
    }

    @Test func finalJobsAreNotRequestedAgain() {
        var session = WatchSession(.jobs([Sample.id, Sample.other]))
        #expect(session.request().jobs.count == 2)
        _ = session.take(.lifecycle(Sample.event(.succeeded, sequence: 3)))
        #expect(session.request().jobs == [.init(jobID: "\(Sample.other)")])
    }

    @Test func eachJobMayHaveASequenceOfItsOwn() {
        var session = WatchSession(.jobs([Sample.id, Sample.other]), sequences: [Sample.other: 4])
        let expected: [WatchRequest.Watched] = [
            .init(jobID: "\(Sample.id)"), .init(jobID: "\(Sample.other)", afterSequence: 4),
        ]
        #expect(session.request().jobs == expected)
    }

    @Test func whatEndedAtTheGivenSequenceIsLookedUp() {
        var session = WatchSession(.jobs([Sample.id]), after: 3)
        #expect(session.request().jobs == [.init(jobID: "\(Sample.id)", afterSequence: 3)])
        #expect(session.unaccounted() == [Sample.id])
        #expect(session.account(for: Sample.id, Sample.job(.failed, sequence: 3)) == nil)
        #expect(session.isOver)
        #expect(session.hasFailures)
    }

    @Test func allNamedJobsMustBeFinal() {
        var session = WatchSession(.jobs([Sample.id, Sample.other]))
        _ = session.request()
        _ = session.take(.lifecycle(Sample.event(.succeeded, sequence: 3)))
        #expect(!session.isOver)
        #expect(session.unaccounted() == [Sample.other])
        _ = session.take(.lifecycle(Sample.event(.cancelled, sequence: 3, id: Sample.other)))
        #expect(session.isOver)
        #expect(session.hasFailures)
    }

    @Test func aUsersWatchTellsWhatItMissed() {
        var session = WatchSession(.all(userID: "ada", queue: ""))
        #expect(session.request().filter?.userID == "ada")
        _ = session.take(.snapshot(Sample.job(.pending, sequence: 1)))
        _ = session.take(.snapshot(Sample.job(.running, id: Sample.other, sequence: 2)))
        let complete = WatchEvent.snapshotsComplete
        #expect(session.take(complete) == complete)
        #expect(session.unaccounted().isEmpty)

        // Again: one has moved on, the other has ended meanwhile.
        _ = session.request()
        let moved = WatchEvent.snapshot(Sample.job(.running, sequence: 2))
        #expect(session.take(moved) == moved)
        #expect(session.take(moved) == nil)
        #expect(session.take(complete) == nil)
        #expect(session.unaccounted() == [Sample.other])
        let ended = Sample.job(.succeeded, id: Sample.other, sequence: 3)
        #expect(session.account(for: Sample.other, ended) == .snapshot(ended))
        #expect(session.unaccounted().isEmpty)
        #expect(!session.isOver)
    }

    @Test func aJobThatIsGoneIsForgotten() {
        var session = WatchSession(.all(userID: "ada", queue: ""))
        _ = session.request()
        _ = session.take(.snapshot(Sample.job(.pending, sequence: 1)))
        _ = session.request()
        #expect(session.account(for: Sample.id, nil) == .removed(Sample.id))
        #expect(session.unaccounted().isEmpty)
    }

    @Test func logLinesAreGivenOnce() {
        func lines(_ numbers: ClosedRange<Int64>) -> [LogLine] {
            numbers.map {
                LogLine(number: $0, at: Sample.start, attempt: 1, level: .info, message: "line \($0)")
            }
        }
        var session = WatchSession(.jobs([Sample.id]), includesLog: true)
        #expect(session.request().includeLog)
        #expect(session.take(.log(Sample.id, lines(1...3))) == .log(Sample.id, lines(1...3)))
        #expect(session.take(.log(Sample.id, lines(2...5))) == .log(Sample.id, lines(4...5)))
        #expect(session.take(.log(Sample.id, lines(5...5))) == nil)
    }

    // MARK: Resuming by token

    @Test func aConnectionResumesAtTheLatestToken() {
        var session = WatchSession(.jobs([Sample.id, Sample.other]), includesLog: true)
        #expect(session.request().resumeToken == "")
        _ = session.receive(WatchResponse(.snapshotsComplete, resumeToken: "one"))
        _ = session.receive(
            WatchResponse(.lifecycle(Sample.event(.succeeded, sequence: 3)), resumeToken: "two"))
        // An empty token leaves the one of before.
        _ = session.take(.heartbeat(at: Sample.start))
        let request = session.request()
        #expect(request.resumeToken == "two" && request.includeLog)
        // A token is good for the same jobs only, also for those that are final.
        #expect(request.jobs.map(\.jobID) == ["\(Sample.id)", "\(Sample.other)"])
    }

    @Test func whatIsRepeatedAfterATokenIsGivenOnce() {
        var session = WatchSession(.all(userID: "ada", queue: ""))
        _ = session.request()
        _ = session.receive(WatchResponse(.snapshotsComplete, resumeToken: "one"))
        let events = [JobEventType.enqueued, .started, .succeeded].enumerated().map {
            WatchEvent.lifecycle(Sample.event($1, sequence: Int64($0 + 1)))
        }
        for event in events { #expect(session.take(event) == event) }
        #expect(session.request().resumeToken == "one")
        #expect(session.take(.opened(resumed: true, heartbeatInterval: .seconds(15))) == nil)
        for event in events { #expect(session.take(event) == nil) }
        // The job was retried meanwhile.
        let retried = WatchEvent.lifecycle(Sample.event(.retried, sequence: 4))
        #expect(session.take(retried) == retried)
        // Some events from before a token are repeated too.
        let ended = WatchEvent.lifecycle(Sample.event(.succeeded, sequence: 5, id: Sample.other))
        #expect(session.receive(WatchResponse(ended, resumeToken: "two")) == ended)
        #expect(session.request().resumeToken == "two")
        #expect(session.take(.opened(resumed: true, heartbeatInterval: .seconds(15))) == nil)
        #expect(session.take(ended) == nil)
    }

    @Test func theLatestFinalJobsAreRemembered() {
        var session = WatchSession(.all(userID: "ada", queue: ""))
        _ = session.request()
        let ids = (0..<3 * WatchSession.endedMin).map { _ in JobID(UUID()) }
        func end(of id: JobID) -> WatchEvent { .lifecycle(Sample.event(.succeeded, sequence: 3, id: id)) }
        for id in ids { #expect(session.take(end(of: id)) != nil) }
        for id in ids.suffix(WatchSession.endedMin) { #expect(session.take(end(of: id)) == nil) }
        #expect(session.take(end(of: ids[0])) != nil)
    }

    @Test func namedJobsResumeBySequenceWhereTheTokenIsOfNoUse() {
        var session = WatchSession(.jobs([Sample.id, Sample.other]), includesLog: true)
        _ = session.request()
        _ = session.take(.snapshot(Sample.job(.pending, sequence: 1)))
        _ = session.take(.snapshot(Sample.job(.pending, id: Sample.other, sequence: 1)))
        _ = session.receive(WatchResponse(.snapshotsComplete, resumeToken: "one"))
        #expect(session.take(.lifecycle(Sample.event(.started, sequence: 2))) != nil)
        #expect(session.request().resumeToken == "one")
        #expect(!session.mustReconnect)
        // The server begins with snapshots, and they would hide the events that were missed.
        _ = session.receive(
            WatchResponse(.opened(resumed: false, heartbeatInterval: .seconds(15)), resumeToken: "two"))
        #expect(session.mustReconnect)
        let request = session.request()
        #expect(!session.mustReconnect && request.resumeToken == "" && request.includeLog)
        let expected: [WatchRequest.Watched] = [
            .init(jobID: "\(Sample.id)", afterSequence: 2), .init(jobID: "\(Sample.other)", afterSequence: 1),
        ]
        #expect(request.jobs == expected)
        _ = session.take(.opened(resumed: false, heartbeatInterval: .seconds(15)))
        #expect(!session.mustReconnect)
        #expect(session.take(.lifecycle(Sample.event(.succeeded, sequence: 3))) != nil)
    }

    @Test func onlyARefusedTokenIsDropped() {
        func refusal(_ code: Status.Code, _ fields: String...) -> Status {
            let violations = fields.map {
                StatusDetails.Violation(field: $0, reason: "OTHER_REQUEST", description: "no")
            }
            return Status(
                code, "no", details: StatusDetails(code: 3, message: "", badRequest: violations).encode())
        }
        var session = WatchSession(.all(userID: "ada", queue: ""))
        _ = session.request()
        let refused = refusal(.invalidArgument, "resume_token")
        // No token was sent.
        #expect(session.dropToken(refusedBy: refused) == false)
        _ = session.receive(WatchResponse(.snapshotsComplete, resumeToken: "one"))
        #expect(session.dropToken(refusedBy: refusal(.invalidArgument)) == false)
        #expect(session.dropToken(refusedBy: refusal(.invalidArgument, "resume_token", "filter")) == false)
        #expect(session.dropToken(refusedBy: refusal(.outOfRange, "resume_token")) == false)
        #expect(session.request().resumeToken == "one")
        #expect(session.dropToken(refusedBy: refused) == true)
        #expect(session.request().resumeToken == "")
    }

    @Test func aTokenIsUsedAfterTheMissingJobsWereLookedUp() {
        var session = WatchSession(.all(userID: "ada", queue: ""))
        _ = session.request()
        _ = session.take(.snapshot(Sample.job(.running, sequence: 2)))
        _ = session.take(.snapshot(Sample.job(.running, id: Sample.other, sequence: 2)))
        _ = session.request()
        _ = session.receive(WatchResponse(.snapshotsComplete, resumeToken: "one"))
        #expect(Set(session.unaccounted()) == [Sample.id, Sample.other])
        _ = session.account(for: Sample.id, Sample.job(.succeeded, sequence: 3))
        // The second look-up has failed. A connection that resumed at the token would never find the job again.
        #expect(session.request().resumeToken == "")
        _ = session.receive(WatchResponse(.snapshotsComplete, resumeToken: "two"))
        #expect(session.unaccounted() == [Sample.other])
        _ = session.account(for: Sample.other, Sample.job(.failed, id: Sample.other, sequence: 3))
        #expect(session.request().resumeToken == "two")
    }

    @Test func whatIsAboutOtherJobsIsLeftOut() {
        var session = WatchSession(.jobs([Sample.id]))
        _ = session.request()
        let line = LogLine(number: 1, at: Sample.start, attempt: 1, level: .info, message: "hm")
        let foreign: [WatchEvent] = [
            .snapshot(Sample.job(.running, id: Sample.other, sequence: 2)),
            .lifecycle(Sample.event(.failed, sequence: 3, id: Sample.other)),
            .progress(Sample.other, attempt: 1, Sample.progress(0.5)), .log(Sample.other, [line]),
            .removed(Sample.other),
        ]
        for event in foreign { #expect(session.take(event) == nil) }
        #expect(!session.hasFailures && session.unaccounted() == [Sample.id])
    }

    @Test func aResumedWatchLooksNothingUp() {
        var session = WatchSession(.all(userID: "ada", queue: ""))
        _ = session.request()
        _ = session.receive(WatchResponse(.snapshot(Sample.job(.pending, sequence: 1)), resumeToken: "one"))
        _ = session.request()
        _ = session.take(.opened(resumed: true, heartbeatInterval: .seconds(15)))
        #expect(session.take(.snapshotsComplete) == .snapshotsComplete)
        #expect(session.unaccounted().isEmpty)
        // The server has forgotten the token: snapshots come, and this job is not among them.
        _ = session.request()
        _ = session.take(.opened(resumed: false, heartbeatInterval: .seconds(15)))
        _ = session.take(.snapshotsComplete)
        #expect(session.unaccounted() == [Sample.id])
    }

    @Test func aRemovedJobIsToldOnceAndTheOthersGoOn() {
        var session = WatchSession(.jobs([Sample.id, Sample.other]))
        _ = session.request()
        #expect(session.take(.removed(Sample.id)) == .removed(Sample.id))
        #expect(session.take(.removed(Sample.id)) == nil)
        #expect(!session.isOver && session.hasFailures)
        #expect(session.request().jobs.map(\.jobID) == ["\(Sample.other)"])
        #expect(session.take(.lifecycle(Sample.event(.succeeded, sequence: 3, id: Sample.other))) != nil)
        #expect(session.isOver)
    }

    @Test func aJobThatIsRemovedAfterItsEndHasSucceeded() {
        var session = WatchSession(.jobs([Sample.id]))
        _ = session.request()
        _ = session.take(.lifecycle(Sample.event(.succeeded, sequence: 3)))
        #expect(session.take(.removed(Sample.id)) == nil)
        #expect(session.isOver && !session.hasFailures)
    }

    @Test func theServerSaysHowOftenHeartbeatsCome() {
        var session = WatchSession(.jobs([Sample.id]))
        _ = session.request()
        #expect(session.heartbeatInterval == nil)
        _ = session.take(.opened(resumed: false, heartbeatInterval: .seconds(15)))
        #expect(session.heartbeatInterval == .seconds(15))
        _ = session.request()
        #expect(session.heartbeatInterval == nil)
        _ = session.take(.opened(resumed: false, heartbeatInterval: .zero))
        #expect(session.heartbeatInterval == nil)
        _ = session.take(.opened(resumed: false, heartbeatInterval: .nanoseconds(1)))
        #expect(session.heartbeatInterval == .milliseconds(10))
        _ = session.take(.opened(resumed: false, heartbeatInterval: .seconds(Int64.max / 2)))
        #expect(session.heartbeatInterval == .seconds(3600))
    }

    @Test func anEventOfAnUntypeHasItsStateAndSequence() {
        var session = WatchSession(.jobs([Sample.id]))
        _ = session.request()
        var event = Sample.event(.cancelled, sequence: 3)
        event.type = nil
        #expect(session.take(.lifecycle(event)) == .lifecycle(event))
        #expect(session.isOver && session.hasFailures)
    }
}

extension WatchSession {
    /// Receives a message without a token.
    fileprivate mutating func take(_ event: WatchEvent) -> WatchEvent? {
        receive(WatchResponse(event))
    }
}
