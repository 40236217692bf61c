import NIOCore
import Testing

@testable import GRPC

@Suite struct FloodDetectorTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private var budget: FloodDetector {
        var configuration = ServerConfiguration()
        configuration.pingIntervalMin = .seconds(10)
        configuration.overheadFramesBurst = 100
        configuration.overheadFramesPerSecond = 10
        configuration.faultsBurst = 5
        configuration.faultsPerSecond = 1
        return FloodDetector(configuration: configuration, now: start)
    }

    @Test func theThirdEarlyPingIsTooMany() {
        var budget = budget
        let excesses = [0, 8, 16, 24].map { budget.receivedPing(answers: 0, now: start + .seconds($0)) }
        #expect(excesses == [nil, nil, nil, .pings])
    }

    @Test func slowPingsAreFine() {
        var budget = budget
        for number in 0..<100 {
            #expect(budget.receivedPing(answers: 0, now: start + .seconds(Int64(number) * 10)) == nil)
        }
    }

    /// As Go's client does to measure the bandwidth: one for each burst of data.
    @Test func pingsForWhatWasSentAreFine() {
        var budget = budget
        for number in 0..<100 {
            #expect(
                budget.receivedPing(answers: number + 1, now: start + .milliseconds(Int64(number))) == nil)
        }
    }

    @Test func whatWasSentForgivesEarlierPings() {
        var budget = budget
        for _ in 0..<3 { #expect(budget.receivedPing(answers: 0, now: start) == nil) }
        #expect(budget.receivedPing(answers: 1, now: start) == nil)
        for _ in 0..<2 { #expect(budget.receivedPing(answers: 1, now: start) == nil) }
        #expect(budget.receivedPing(answers: 1, now: start) == .pings)
    }

    @Test func framesHaveABurstAndARate() {
        var budget = budget
        #expect(budget.received(overheadFrames: 100, streamsResettled: 0, answers: 0, now: start) == nil)
        #expect(
            budget.received(overheadFrames: 110, streamsResettled: 0, answers: 0, now: start + .seconds(1))
                == nil)
        #expect(
            budget.received(overheadFrames: 121, streamsResettled: 0, answers: 0, now: start + .seconds(2))
                == .frames)
    }

    /// Of 900 streams each SETTINGS counts as 29 frames.
    @Test func settingsCountForTheStreamsThatTheyChange() {
        var budget = budget
        for count in 1...3 {
            #expect(
                budget.received(overheadFrames: count, streamsResettled: count * 900, answers: 0, now: start)
                    == nil)
        }
        #expect(
            budget.received(overheadFrames: 4, streamsResettled: 3_600, answers: 0, now: start) == .frames)
    }

    @Test func whatWasSentMayBeAcknowledged() {
        var budget = budget
        for round in 1...1_000 {
            // Two WINDOW_UPDATEs for each frame.
            #expect(
                budget.received(
                    overheadFrames: round * 50, streamsResettled: 0, answers: round * 25, now: start) == nil)
        }
    }

    /// A client that was frozen for a while acknowledges everything in one flight.
    @Test func whatWasSentMayBeAcknowledgedAtOnce() {
        var budget = budget
        #expect(
            budget.received(overheadFrames: 4_000, streamsResettled: 0, answers: 1_000, now: start) == nil)
        // The burst is untouched, and nothing else is left.
        #expect(
            budget.received(overheadFrames: 4_100, streamsResettled: 0, answers: 1_000, now: start) == nil)
        #expect(
            budget.received(overheadFrames: 4_101, streamsResettled: 0, answers: 1_000, now: start) == .frames
        )
    }

    @Test func whatAnswersEarnIsBounded() {
        var budget = budget
        let answers = 1_000_000
        #expect(budget.received(overheadFrames: 1, streamsResettled: 0, answers: answers, now: start) == nil)
        #expect(
            budget.received(overheadFrames: 40_102, streamsResettled: 0, answers: answers, now: start)
                == .frames)
    }

    @Test func faultsHaveABurstAndARate() {
        var budget = budget
        #expect(budget.sent(resets: 5, now: start) == nil)
        #expect(budget.sent(resets: 6, now: start + .seconds(1)) == nil)
        #expect(budget.sent(resets: 8, now: start + .seconds(2)) == .faults)
    }

    @Test func refusalsAreForgivenAndAnsweredFaultsAreCounted() {
        var budget = budget
        for _ in 0..<100 { budget.forgiveReset() }
        #expect(budget.sent(resets: 105, now: start) == nil)
        for _ in 0..<2 { budget.faultAnswered() }
        #expect(budget.sent(resets: 105, now: start) == .faults)
    }

    @Test func aClockThatStandsStillGivesNothing() {
        var bucket = TokenBucket(burst: 1, perSecond: 1_000_000, now: start)
        let taken = [bucket.take(1, now: start), bucket.take(1, now: start - .seconds(1))]
        #expect(taken == [true, false])
    }
}
