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
        #expect(session.receive(.snapshot(Sample.job(.pending, sequence: 1))) != nil)
        let started = WatchEvent.lifecycle(Sample.event(.started, sequence: 2))
        #expect(session.receive(started) == started)
        #expect(session.receive(started) == nil)
        #expect(session.request().jobs == [.init(jobID: "\(Sample.id)", afterSequence: 2)])
        #expect(!session.isOver)
        #expect(session.receive(.lifecycle(Sample.event(.failed, sequence: 3))) != nil)
        #expect(session.isOver)
        #expect(session.hasFailures)
    }

    @Test func aFinalJobIsOverWithItsLastEvent() {
        var session = WatchSession(.jobs([Sample.id]))
        _ = session.request()
        #expect(session.receive(.snapshot(Sample.job(.succeeded, sequence: 3))) != nil)
        // The event has the result; a connection that is lost before it begins there.
        #expect(!session.isOver)
        #expect(session.request().jobs == [.init(jobID: "\(Sample.id)", afterSequence: 2)])
        let last = WatchEvent.lifecycle(Sample.event(.succeeded, sequence: 3))
        #expect(session.receive(last) == last)
        #expect(session.receive(last) == nil)
        #expect(session.isOver)
        #expect(!session.hasFailures)
    }

    @Test func finalJobsAreNotRequestedAgain() {
        var session = WatchSession(.jobs([Sample.id, Sample.other]))
        #expect(session.request().jobs.count == 2)
        _ = session.receive(.lifecycle(Sample.event(.succeeded, sequence: 3)))
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
        _ = session.receive(.lifecycle(Sample.event(.succeeded, sequence: 3)))
        #expect(!session.isOver)
        #expect(session.unaccounted() == [Sample.other])
        _ = session.receive(.lifecycle(Sample.event(.cancelled, sequence: 3, id: Sample.other)))
        #expect(session.isOver)
        #expect(session.hasFailures)
    }

    @Test func aUsersWatchTellsWhatItMissed() {
        var session = WatchSession(.all(userID: "ada", queue: ""))
        #expect(session.request().filter?.userID == "ada")
        _ = session.receive(.snapshot(Sample.job(.pending, sequence: 1)))
        _ = session.receive(.snapshot(Sample.job(.running, id: Sample.other, sequence: 2)))
        let complete = WatchEvent.snapshotsComplete
        #expect(session.receive(complete) == complete)
        #expect(session.unaccounted().isEmpty)

        // Again: one has moved on, the other has ended meanwhile.
        _ = session.request()
        let moved = WatchEvent.snapshot(Sample.job(.running, sequence: 2))
        #expect(session.receive(moved) == moved)
        #expect(session.receive(moved) == nil)
        #expect(session.receive(complete) == nil)
        #expect(session.unaccounted() == [Sample.other])
        let ended = Sample.job(.succeeded, id: Sample.other, sequence: 3)
        #expect(session.account(for: Sample.other, ended) == .snapshot(ended))
        #expect(session.unaccounted().isEmpty)
        #expect(!session.isOver)
    }

    @Test func aJobThatIsGoneIsForgotten() {
        var session = WatchSession(.all(userID: "ada", queue: ""))
        _ = session.request()
        _ = session.receive(.snapshot(Sample.job(.pending, sequence: 1)))
        _ = session.request()
        #expect(session.account(for: Sample.id, nil) == nil)
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
        #expect(session.receive(.log(Sample.id, lines(1...3))) == .log(Sample.id, lines(1...3)))
        #expect(session.receive(.log(Sample.id, lines(2...5))) == .log(Sample.id, lines(4...5)))
        #expect(session.receive(.log(Sample.id, lines(5...5))) == nil)
    }
}
