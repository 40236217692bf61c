import Foundation
import JobModel
import Support
import Testing

@testable import JobService

@Suite(.timeLimit(.minutes(2))) struct PageTokensTests {
    private let tokens = PageTokens(secret: Array(0..<32))
    private let ada = Caller(name: "ada", source: .token, address: "127.0.0.1:1", users: .all)

    private let now = Timestamp(microseconds: 1_700_000_000_000_000)
    private let list = PagedList(JobFilter())

    private func filter(_ change: (inout JobFilter) -> Void = { _ in }) -> PagedList {
        var filter = JobFilter()
        change(&filter)
        return PagedList(filter)
    }

    /// The position in a token; nil if it is refused.
    private func position(
        _ token: String, _ list: PagedList, _ caller: Caller, tokens: PageTokens? = nil, now: Timestamp? = nil
    ) -> Int64? {
        (try? (tokens ?? self.tokens).decode(ExactText(token), of: list, for: caller, now: now ?? self.now))
            ?? nil
    }

    @Test func aTokenIsReadAgain() throws {
        for number in [0, 1, -1, 12345, Int64.max, .min] {
            let token = try tokens.encode(number, of: list, for: ada, now: now)
            #expect(position(token, list, ada) == number)
            // Another node, with the same secret, reads it too, and from whichever address the caller calls.
            var elsewhere = ada
            elsewhere.address = "127.0.0.1:2"
            #expect(position(token, list, elsewhere, tokens: PageTokens(secret: Array(0..<32))) == number)
            #expect(position(token, list, ada, tokens: PageTokens(secret: Array(1..<33))) == nil)
        }
        #expect(try tokens.decode("", of: list, for: ada, now: now) == nil)
    }

    @Test func aTokenIsValidForThreeDays() throws {
        let token = try tokens.encode(7, of: list, for: ada, now: now)
        let days = Duration.seconds(3 * 86_400)
        #expect(position(token, list, ada, now: now.advanced(by: days)) == 7)
        // The clock of another node may be behind.
        #expect(position(token, list, ada, now: now.advanced(by: .seconds(-60))) == 7)
        #expect(throws: ServiceError.pageTokenInvalid) {
            try tokens.decode(
                ExactText(token), of: list, for: ada, now: now.advanced(by: days + .microseconds(1)))
        }
    }

    /// The number is not in the token as 8 bytes nor as text, and each token for the same number is different.
    @Test func aTokenDoesNotTellItsNumber() throws {
        let number: Int64 = 0x0123_4567_89AB_CDEF
        var seen: Set<String> = []
        for _ in 0..<100 {
            let token = try tokens.encode(number, of: list, for: ada, now: now)
            #expect(token.utf8.count == 60 && seen.insert(token).inserted)
            let bytes = try #require(Data(base64Encoded: token))
            for part in [withUnsafeBytes(of: number.bigEndian) { Data($0) }, Data("\(number)".utf8)] {
                #expect(bytes.range(of: part) == nil)
                #expect(bytes.range(of: Data(part.reversed())) == nil)
            }
        }
    }

    @Test func everyChangeOfATokenIsFound() throws {
        let token = try tokens.encode(7, of: list, for: ada, now: now)
        let bytes = try #require(Data(base64Encoded: token))
        for index in bytes.indices {
            for bit in 0..<8 {
                var changed = bytes
                changed[index] ^= 1 << bit
                #expect(position(changed.base64EncodedString(), list, ada) == nil)
            }
        }
        // Tokens of earlier versions were shorter.
        let old = [16, 36].map { Data(count: $0).base64EncodedString() }
        for text in old + [
            "x", String(token.dropLast()), token + "A", token + "====", "\n" + token,
            String(repeating: "\u{301}", count: 10_000),
        ] {
            #expect(throws: ServiceError.pageTokenInvalid) {
                try tokens.decode(ExactText(text), of: list, for: ada, now: now)
            }
        }
    }

    @Test func aTokenIsForTheSameListAndCaller() throws {
        let lists: [PagedList] = [
            filter(), filter { $0.userID = "a" }, filter { $0.userID = "" }, filter { $0.queue = "a" },
            filter { $0.kinds = ["a"] }, filter { $0.kinds = ["a", "b"] }, filter { $0.userID = "\u{E9}" },
            filter { $0.userID = "e\u{301}" },
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
            PagedList("ListQueues"), PagedList("ListNodes"), PagedList("ListAttempts", "a"),
            PagedList("ListAttempts", "b"), PagedList("ListLogLines", "a", "0", nil),
            PagedList("ListLogLines", "a", "0", "info"), PagedList("ListLogLines", "a", "1", nil),
        ]
        var callers = [ada, ada, ada]
        callers[1].name = "bob"
        callers[2].source = .jwt
        for (index, list) in lists.enumerated() {
            for (callerIndex, caller) in callers.enumerated() {
                let token = try tokens.encode(7, of: list, for: caller, now: now)
                for (other, list) in lists.enumerated() {
                    #expect((position(token, list, caller) == 7) == (other == index))
                }
                for (other, caller) in callers.enumerated() {
                    #expect((position(token, list, caller) == 7) == (other == callerIndex))
                }
            }
        }
    }

    @Test func theOrderOfLabelsAndKindsDoesNotMatter() throws {
        let pairs: [(ExactText, ExactText)] = (0..<8).map { ("k\($0)", "v") }
        let kinds = (0..<8).map { "k\($0)" }
        let first = filter {
            $0.labels = .init(uniqueKeysWithValues: pairs)
            $0.kinds = Set(kinds)
        }
        let token = try tokens.encode(7, of: first, for: ada, now: now)
        for _ in 0..<20 {
            let shuffled = filter {
                $0.labels = .init(uniqueKeysWithValues: pairs.shuffled())
                $0.kinds = Set(kinds.shuffled())
            }
            #expect(position(token, shuffled, ada) == 7)
        }
    }
}
