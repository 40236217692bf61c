import JobModel
import JobWatch
import Support
import Testing

/// How far a buffer says that its client is: never beyond what `next` has returned.
@Suite struct WatchPlacesTests {
    private typealias Base = WatchBufferTests

    private func place(_ buffer: WatchBuffer, lastLogLine: Int64 = 0) -> JobPlace? {
        buffer.places(numbers: [Base.job: 7]) { _ in lastLogLine }[Base.job]
    }

    private func watch() -> WatchBuffer {
        var buffer = WatchBuffer(namesJobs: true)
        buffer.track(Base.job, delivered: 1, isFinal: false)
        return buffer
    }

    @Test func whatWaitsIsNotCounted() {
        var buffer = watch()
        #expect(place(buffer) == .sent(number: 7, sequence: 1, logLine: 0))
        buffer.receive(WatchUpdate(Base.event(2)))
        buffer.receive(WatchUpdate(Base.event(3, .retryScheduled)))
        #expect(place(buffer) == .sent(number: 7, sequence: 1, logLine: 0))
        _ = buffer.next()
        #expect(place(buffer) == .sent(number: 7, sequence: 2, logLine: 0))
        _ = buffer.next()
        #expect(place(buffer) == .sent(number: 7, sequence: 3, logLine: 0))
    }

    @Test func whatIsBeingReadIsNotCounted() {
        var buffer = watch()
        buffer.receive(WatchUpdate(Base.event(3)))
        #expect(buffer.next() == .read([Base.job: 1]))
        #expect(buffer.next() == .wait)
        #expect(place(buffer) == .sent(number: 7, sequence: 1, logLine: 0))
    }

    @Test func linesThatWaitAreNotCounted() {
        var buffer = watch()
        let lines = (5...7).map {
            LogLine(number: $0, at: Timestamp(microseconds: 0), attempt: 1, level: .info, message: "")
        }
        buffer.receive(log: lines, of: Base.job)
        #expect(place(buffer, lastLogLine: 7) == .sent(number: 7, sequence: 1, logLine: 4))
        #expect(buffer.next() == .sendLog(Base.job, lines))
        #expect(place(buffer, lastLogLine: 7) == .sent(number: 7, sequence: 1, logLine: 7))
    }

    @Test func aRemovedJobIsSaidToBeGoneOnce() {
        var buffer = watch()
        buffer.track(Base.other, delivered: 1, isFinal: false)
        buffer.receive(WatchUpdate(Base.event(3)))
        #expect(buffer.next() == .read([Base.job: 1]))
        buffer.caughtUp([Base.job: []], removed: [Base.job])
        #expect(place(buffer) == .sent(number: 7, sequence: 1, logLine: 0))
        #expect(buffer.next() == .send(WatchUpdate(removed: Base.job)))
        #expect(place(buffer) == .removed)
        buffer.caughtUp([:], removed: [Base.job])
        #expect(buffer.next() == .wait)
        buffer.receive(WatchUpdate(Base.event(2, .cancelled, of: Base.other)))
        _ = buffer.next()
        #expect(buffer.next() == .end)
    }

    @Test func aMissingJobIsNotWaitedFor() {
        var buffer = WatchBuffer(namesJobs: true)
        buffer.track(removed: Base.job)
        #expect(place(buffer) == .removed)
        #expect(buffer.next() == .end)
    }

    @Test func aWatchOfAUserHasSentAllWhenNothingWaits() {
        var buffer = WatchBuffer(namesJobs: false)
        #expect(buffer.hasSentAll)
        buffer.receive(WatchUpdate(Base.event(1, .enqueued)))
        #expect(!buffer.hasSentAll)
        _ = buffer.next()
        #expect(buffer.hasSentAll)
        buffer.receive(WatchUpdate(Base.event(3)))
        #expect(!buffer.hasSentAll)
        _ = buffer.next()
        #expect(!buffer.hasSentAll)
        buffer.caughtUp([Base.job: [Base.event(2), Base.event(3)]])
        #expect(!buffer.hasSentAll)
        _ = buffer.next()
        _ = buffer.next()
        #expect(buffer.hasSentAll)
    }
}
