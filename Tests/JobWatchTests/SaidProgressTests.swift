import JobModel
import Testing

@testable import JobWatch

@Suite struct SaidProgressTests {
    private func at(_ moment: Int64) -> Timestamp { Timestamp(microseconds: moment) }

    private func afterSaying(_ moment: Int64) -> SaidProgress {
        var said = SaidProgress()
        said.say(at(moment), attempt: 1, of: 7)
        return said
    }

    @Test func whatAllHaveIsNotToldWhenItIsSaved() {
        var said = afterSaying(5)
        said.isWithAll(at(5), of: 7)
        // One that was said before, whose saving took longer.
        let isEarlierKnown = said.save(at(4), attempt: 1, of: 7)
        let isKnown = said.save(at(5), attempt: 1, of: 7)
        #expect(isEarlierKnown && isKnown)
    }

    @Test func whatSomeMayNotHaveIsTold() {
        var said = afterSaying(5)
        let isKnown = said.save(at(5), attempt: 1, of: 7)
        #expect(!isKnown)
    }

    @Test func whatNobodySaidHereIsTold() {
        var said = afterSaying(5)
        said.isWithAll(at(5), of: 7)
        let isKnown = [
            said.save(at(5), attempt: 1, of: 8), said.save(at(5), attempt: 2, of: 7),
            said.save(at(6), attempt: 1, of: 7),
        ]
        #expect(isKnown == [false, false, false])
    }

    /// Which may have read the state before it was saved.
    @Test func watchThatBeginsInBetweenIsTold() {
        for isBeforeAllHaveIt in [false, true] {
            var said = afterSaying(5)
            if isBeforeAllHaveIt { said.forget(7) }
            said.isWithAll(at(5), of: 7)
            if !isBeforeAllHaveIt { said.forget(7) }
            let isKnown = said.save(at(5), attempt: 1, of: 7)
            #expect(!isKnown)
        }
    }

    @Test func onlyTheLatestCounts() {
        var said = afterSaying(5)
        said.say(at(6), attempt: 1, of: 7)
        said.isWithAll(at(5), of: 7)
        let isKnown = said.save(at(5), attempt: 1, of: 7)
        #expect(!isKnown)
    }
}
