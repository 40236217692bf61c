import Foundation
import SignalboxTesting
import Testing

@testable import EmbeddedServer

@Suite struct CountWordsTests {
    @Test func countsEachText() async throws {
        let outcome = try await HandlerTest(CountWords()).run(.init(texts: ["a b", "", "c"]))
        #expect(try outcome.result(as: [Int].self) == [2, 0, 1])
        #expect(outcome.reports.map(\.done) == [1, 2, 3])
    }

    @Test func goesOnAfterAnInterruption() async throws {
        var test = HandlerTest(CountWords())
        test.checkpoint = try JSONEncoder().encode([7])
        test.attempt = 2
        let outcome = try await test.run(.init(texts: ["a b", "c"]))
        #expect(try outcome.result(as: [Int].self) == [7, 1])
    }

    @Test func nothingToCountFailsForGood() async throws {
        let outcome = try await HandlerTest(CountWords()).run(.init(texts: []))
        #expect(outcome.failure == .permanent("there are no texts", reason: "no_texts"))
    }
}
