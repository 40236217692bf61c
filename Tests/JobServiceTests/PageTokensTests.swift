import Foundation
import JobModel
import Support
import Testing

@testable import JobService

@Suite(.timeLimit(.minutes(2))) struct PageTokensTests {
    private let tokens = PageTokens(secret: Array(0..<32))
    private let ada = Caller(name: "ada", source: .token, address: "127.0.0.1:1", users: .all)

    private func filter(_ change: (inout JobFilter) -> Void = { _ in }) -> JobFilter {
        var filter = JobFilter()
        change(&filter)
        return filter
    }

    @Test func aTokenIsReadAgain() throws {
        for number in [0, 1, -1, 12345, Int64.max, .min] {
            let token = try tokens.encode(number, filter(), for: ada)
            #expect(tokens.decode(token, filter(), for: ada) == number)
            // Another node, with the same secret, reads it too, and from whichever address the caller calls.
            var elsewhere = ada
            elsewhere.address = "127.0.0.1:2"
            #expect(
                PageTokens(secret: Array(0..<32)).decode(token, filter(), for: elsewhere) == number)
            #expect(PageTokens(secret: Array(1..<33)).decode(token, filter(), for: ada) == nil)
        }
    }

    /// The number is not in the token as 8 bytes nor as text, and each token for the same number is different.
    @Test func aTokenDoesNotTellItsNumber() throws {
        let number: Int64 = 0x0123_4567_89AB_CDEF
        var seen: Set<String> = []
        for _ in 0..<100 {
            let token = try tokens.encode(number, filter(), for: ada)
            #expect(token.utf8.count == 48 && seen.insert(token).inserted)
            let bytes = try #require(Data(base64Encoded: token))
            for part in [withUnsafeBytes(of: number.bigEndian) { Data($0) }, Data("\(number)".utf8)] {
                #expect(bytes.range(of: part) == nil)
                #expect(bytes.range(of: Data(part.reversed())) == nil)
            }
        }
    }

    @Test func everyChangeOfATokenIsFound() throws {
        let token = try tokens.encode(7, filter(), for: ada)
        let bytes = try #require(Data(base64Encoded: token))
        for index in bytes.indices {
            for bit in 0..<8 {
                var changed = bytes
                changed[index] ^= 1 << bit
                #expect(tokens.decode(changed.base64EncodedString(), filter(), for: ada) == nil)
            }
        }
        // A token of the last version: number and checksum.
        let old = Data(count: 16).base64EncodedString()
        for text in [
            "", "x", old, String(token.dropLast()), token + "A", token + "====", "\n" + token,
            String(repeating: "\u{301}", count: 10_000),
        ] {
            #expect(tokens.decode(text, filter(), for: ada) == nil)
        }
    }

    @Test func aTokenIsForTheSameListAndCaller() throws {
        let now = Timestamp(microseconds: 5)
        let filters: [JobFilter] = [
            filter(), filter { $0.userID = "a" }, filter { $0.userID = "" }, filter { $0.queue = "a" },
            filter { $0.kind = "a" }, filter { $0.userID = "\u{E9}" }, filter { $0.userID = "e\u{301}" },
            filter { $0.states = [.pending] }, filter { $0.states = [.pending, .running] },
            filter { $0.createdFrom = now }, filter { $0.createdTo = now },
            filter { $0.labels = ["a": "bc"] }, filter { $0.labels = ["ab": "c"] },
            filter { $0.labels = ["a": "b", "c": "d"] }, filter { $0.labels = ["a": "d", "c": "b"] },
            // Characters that once separated the parts.
            filter { $0.labels = ["a": "b\u{2}c\u{1}d"] }, filter { $0.userID = "a\0b" },
            filter {
                $0.userID = "a"
                $0.queue = "b"
            },
        ]
        var callers = [ada, ada, ada]
        callers[1].name = "bob"
        callers[2].source = .jwt
        for (index, list) in filters.enumerated() {
            for (callerIndex, caller) in callers.enumerated() {
                let token = try tokens.encode(7, list, for: caller)
                for (other, filter) in filters.enumerated() {
                    #expect((tokens.decode(token, filter, for: caller) == 7) == (other == index))
                }
                for (other, caller) in callers.enumerated() {
                    #expect((tokens.decode(token, list, for: caller) == 7) == (other == callerIndex))
                }
            }
        }
    }

    @Test func theOrderOfLabelsDoesNotMatter() throws {
        let pairs: [(ExactText, ExactText)] = (0..<8).map { ("k\($0)", "v") }
        let token = try tokens.encode(7, filter { $0.labels = .init(uniqueKeysWithValues: pairs) }, for: ada)
        for _ in 0..<20 {
            let shuffled = filter { $0.labels = .init(uniqueKeysWithValues: pairs.shuffled()) }
            #expect(tokens.decode(token, shuffled, for: ada) == 7)
        }
    }
}
