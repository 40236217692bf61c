import Testing

@testable import JobService

@Suite struct KindMemoryTests {
    private let start = ContinuousClock.now

    private func memory() -> KindMemory {
        var memory = KindMemory()
        memory.remember(["a", "b"], asOf: start)
        return memory
    }

    @Test func nothingIsRememberedAtFirst() {
        #expect(KindMemory().verdict(on: ["a"], now: start) == .notRemembered)
    }

    @Test(arguments: [
        (0, KindMemory.Verdict.known), (4, .known), (5, .knownFromBefore), (9, .knownFromBefore),
        (10, .notRemembered), (3600, .notRemembered),
    ])
    func whatIsKnownAges(_ seconds: Int, _ verdict: KindMemory.Verdict) {
        #expect(memory().verdict(on: ["a", "b"], now: start + .seconds(seconds)) == verdict)
    }

    @Test func whatIsUnknownIsNotAskedForAtEachCall() {
        let memory = memory()
        #expect(memory.verdict(on: ["a", "x", "c"], now: start + .milliseconds(999)) == .unknown("c"))
        #expect(memory.verdict(on: ["x"], now: start + .seconds(1)) == .notRemembered)
    }

    @Test func onlyWhatIsAnsweredNowNeedsNoReading() {
        #expect(!KindMemory.Verdict.known.asksForReading)
        #expect(!KindMemory.Verdict.unknown("a").asksForReading)
        #expect(KindMemory.Verdict.knownFromBefore.asksForReading)
        #expect(KindMemory.Verdict.notRemembered.asksForReading)
    }
}
