import JobModel
import SignalboxProto
import GRPC
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
        // Behind a token nothing is repeated, and final jobs are forgotten.
        let ended = WatchEvent.lifecycle(Sample.event(.succeeded, sequence: 5, id: Sample.other))
        #expect(session.receive(WatchResponse(ended, resumeToken: "two")) == ended)
        #expect(session.take(ended) == ended)
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
