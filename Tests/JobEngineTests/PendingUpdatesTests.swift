import JobModel
import Support
import Testing

@testable import JobEngine

@Suite struct PendingUpdatesTests {
    private let run = ClaimedRun.sample()

    private func progress(_ stage: String, at microseconds: Int64) -> Progress {
        Progress(
            stage: stage, fraction: 0, message: "", done: 0, total: 0,
            updatedAt: Timestamp(microseconds: microseconds))
    }

    private func take(_ updates: inout PendingUpdates) throws -> RunUpdate {
        let update = updates.take(for: run)
        return try #require(update)
    }

    @Test func onlyTheLatestProgressIsSaved() throws {
        var updates = PendingUpdates(lastLogLine: 3)
        #expect(updates.take(for: run) == nil)
        #expect(updates.isEmpty)
        _ = updates.report(progress("a", at: 1))
        _ = updates.report(progress("b", at: 2))
        let line = updates.log(.info, "m", at: Timestamp(microseconds: 3), attempt: 1)
        #expect(line.number == 4)
        let update = try take(&updates)
        #expect(update.progress?.stage == "b" && update.log == [line] && update.run.fence == run.fence)
        #expect(!updates.isEmpty)
        _ = updates.end(update, isSaved: true)
        #expect(updates.isEmpty)
    }

    /// Whatever the clock does.
    @Test func eachProgressIsLaterThanTheOneBefore() {
        var updates = PendingUpdates(lastLogLine: 0)
        let times = [10, 10, 5, 20].map { updates.report(progress("", at: $0)).updatedAt.microseconds }
        #expect(times == [10, 11, 12, 20])
    }

    @Test func fractionNeverFalls() {
        var updates = PendingUpdates(lastLogLine: 0)
        let fractions: [Double?] = [nil, 0.25, 0.5, 0.4, nil, 0, 0.75].map { fraction in
            updates.report(
                Progress(
                    stage: "", fraction: fraction, message: "", done: 0, total: 0,
                    updatedAt: Timestamp(microseconds: 1))
            ).fraction
        }
        #expect(fractions == [nil, 0.25, 0.5, 0.5, 0.5, 0.5, 0.75])
    }

    @Test func oneSaveAtATime() throws {
        var updates = PendingUpdates(lastLogLine: 0)
        _ = updates.report(progress("a", at: 1))
        let update = try take(&updates)
        _ = updates.report(progress("b", at: 2))
        #expect(updates.take(for: run) == nil)
        _ = updates.end(update, isSaved: true)
        #expect(updates.take(for: run)?.progress?.stage == "b")
    }

    @Test func whatWasNotSavedIsKeptUnlessThereIsNewer() throws {
        var updates = PendingUpdates(lastLogLine: 0)
        _ = updates.report(progress("a", at: 1))
        let time = Timestamp(microseconds: 1)
        _ = updates.log(.info, "first", at: time, attempt: 1)
        var update = try take(&updates)
        _ = updates.log(.info, "second", at: time, attempt: 1)
        _ = updates.end(update, isSaved: false)
        update = try take(&updates)
        #expect(update.progress?.stage == "a" && update.log.map(\.message) == ["first", "second"])
        _ = updates.report(progress("b", at: 2))
        _ = updates.end(update, isSaved: false)
        #expect(updates.take(for: run)?.progress?.stage == "b")
    }

    @Test func oldestLinesAreDropped() throws {
        var updates = PendingUpdates(lastLogLine: 0)
        let time = Timestamp(microseconds: 1)
        for _ in 0..<PendingUpdates.logLinesMax + 2 { _ = updates.log(.info, "", at: time, attempt: 1) }
        let update = try take(&updates)
        #expect(update.log.first?.number == 3 && update.log.count == PendingUpdates.logLinesMax)
        _ = updates.log(.info, "", at: time, attempt: 1)
        _ = updates.end(update, isSaved: false)
        #expect(updates.take(for: run)?.log.first?.number == 4)
    }
}
