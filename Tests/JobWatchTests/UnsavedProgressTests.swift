import JobModel
import Testing

@testable import JobWatch

@Suite struct UnsavedProgressTests {
    private func at(_ moment: Int64) -> Timestamp { Timestamp(microseconds: moment) }

    private func afterPublishing(_ moment: Int64) -> UnsavedProgress {
        var unsaved = UnsavedProgress()
        unsaved.publish(at(moment), attempt: 1, of: 7)
        return unsaved
    }

    @Test func progressThatAllHaveIsNotPublishedAgain() {
        var unsaved = afterPublishing(5)
        unsaved.allHave(at(5), of: 7)
        // Earlier progress whose save took longer.
        let isEarlierKnown = unsaved.save(at(4), attempt: 1, of: 7)
        let isKnown = unsaved.save(at(5), attempt: 1, of: 7)
        #expect(isEarlierKnown && isKnown)
    }

    @Test func progressThatSomeMayLackIsPublishedAgain() {
        var unsaved = afterPublishing(5)
        let isKnown = unsaved.save(at(5), attempt: 1, of: 7)
        #expect(!isKnown)
    }

    @Test func unknownProgressIsPublished() {
        var unsaved = afterPublishing(5)
        unsaved.allHave(at(5), of: 7)
        let isKnown = [
            unsaved.save(at(5), attempt: 1, of: 8), unsaved.save(at(5), attempt: 2, of: 7),
            unsaved.save(at(6), attempt: 1, of: 7),
        ]
        #expect(isKnown == [false, false, false])
    }

    /// That watch may have read the state before the save.
    @Test func watchThatBeginsInBetweenGetsIt() {
        for isBeforeAllHaveIt in [false, true] {
            var unsaved = afterPublishing(5)
            if isBeforeAllHaveIt { unsaved.forget(7) }
            unsaved.allHave(at(5), of: 7)
            if !isBeforeAllHaveIt { unsaved.forget(7) }
            let isKnown = unsaved.save(at(5), attempt: 1, of: 7)
            #expect(!isKnown)
        }
    }

    @Test func onlyTheLatestCounts() {
        var unsaved = afterPublishing(5)
        unsaved.publish(at(6), attempt: 1, of: 7)
        unsaved.allHave(at(5), of: 7)
        let isKnown = unsaved.save(at(5), attempt: 1, of: 7)
        #expect(!isKnown)
    }
}
