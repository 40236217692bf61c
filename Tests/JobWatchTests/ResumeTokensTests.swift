import JobModel
import Support
import Testing

@testable import JobWatch

@Suite struct ResumeTokensTests {
    private let tokens = ResumeTokens(secret: Array(0..<32))
    private static let ids = (0..<1000).map { WatchBufferTests.id($0) }
    private let place = WatchPlace.changes(
        ChangePlace(
            xmax: 1_000_000, xip: [999_990, 12, 0], at: Timestamp(microseconds: 1_700_000_000_000_000)))
    private let ada = WatchSubject.all(userID: "ada", queue: nil)

    private func jobs(_ count: Int, sequence: Int64, logLine: Int64) -> WatchPlace {
        .jobs(
            Dictionary(
                uniqueKeysWithValues: Self.ids.prefix(count).map {
                    ($0, .sent(number: 1_000_000, sequence: sequence, logLine: logLine))
                }))
    }

    @Test func aTokenIsReadAgain() throws {
        let mixed = WatchPlace.jobs([
            Self.ids[0]: .sent(number: 8, sequence: 0, logLine: 0), Self.ids[1]: .removed,
            Self.ids[2]: .sent(number: .max, sequence: .max, logLine: .max),
            Self.ids[3]: .sent(number: 0, sequence: 127, logLine: 128),
        ])
        let named = WatchSubject.jobs(Array(Self.ids.prefix(4)))
        for (place, subject) in [(mixed, named), (place, ada)] {
            let token = try #require(tokens.encode(place, of: subject))
            // Another node, with the same secret, reads it too.
            #expect(
                ResumeTokens(secret: Array(0..<32)).decode(ExactText(token), of: subject) == .place(place))
            #expect(ResumeTokens(secret: Array(1..<33)).decode(ExactText(token), of: subject) == .unusable)
        }
    }

    /// A request may name the jobs in any order.
    @Test func theOrderOfJobsDoesNotMatter() throws {
        let place = jobs(3, sequence: 2, logLine: 5)
        let token = try #require(tokens.encode(place, of: .jobs(Array(Self.ids.prefix(3)))))
        #expect(tokens.decode(ExactText(token), of: .jobs(Self.ids.prefix(3).reversed())) == .place(place))
    }

    @Test func aThousandJobsFit() throws {
        let token = try #require(
            tokens.encode(jobs(1000, sequence: 16_000, logLine: 2_000_000), of: .jobs(Self.ids)))
        #expect(token.utf8.count <= JobLimits.resumeTokenBytesMax)
        #expect(
            tokens.decode(ExactText(token), of: .jobs(Self.ids))
                == .place(jobs(1000, sequence: 16_000, logLine: 2_000_000)))
        // Numbers that no job reaches would not fit.
        #expect(tokens.encode(jobs(1000, sequence: .max, logLine: .max), of: .jobs(Self.ids)) == nil)
    }

    @Test func aTokenIsOfOneSubject() throws {
        let token = ExactText(try #require(tokens.encode(place, of: ada)))
        let others: [WatchSubject] = [
            .all(userID: "bob", queue: nil), .all(userID: "ada", queue: "q"), .all(userID: nil, queue: "ada"),
            .jobs([]), .jobs([Self.ids[0]]),
        ]
        for other in others { #expect(tokens.decode(token, of: other) == .ofAnotherSubject) }
        let two = try #require(
            tokens.encode(jobs(2, sequence: 1, logLine: 0), of: .jobs(Array(Self.ids.prefix(2)))))
        for count in [1, 3] {
            #expect(
                tokens.decode(ExactText(two), of: .jobs(Array(Self.ids.prefix(count)))) == .ofAnotherSubject)
        }
    }

    /// Other users' jobs had no snapshots, so the watch has to begin with them.
    @Test func aTokenIsForTheUsersOfItsWatch() throws {
        let queue = WatchSubject.all(userID: nil, queue: "q")
        let token = ExactText(try #require(tokens.encode(place, of: queue, for: .only(["a", "b"]))))
        #expect(tokens.decode(token, of: queue, for: .only(["b", "a"])) == .place(place))
        for users in [UserScope.all, .only(["a"]), .only(["ab"]), .only(["a", "b", "c"]), .only([])] {
            #expect(tokens.decode(token, of: queue, for: users) == .unusable)
        }
    }

    @Test func everyChangeOfATokenIsFound() throws {
        let token = try #require(tokens.encode(place, of: ada))
        let bytes = try #require(Base64.url.decode(Array(token.utf8)[...]))
        for index in bytes.indices {
            for bit in 0..<8 {
                var changed = bytes
                changed[index] ^= 1 << bit
                let text = String(decoding: Base64.url.encode(changed), as: UTF8.self)
                #expect(tokens.decode(ExactText(text), of: ada) == .unusable)
            }
        }
        for text in [
            "x", "====", String(token.dropLast()), token + "A", token + "=", " " + token,
            String(repeating: "A", count: 8192), String(repeating: "A", count: 10_000),
        ] {
            #expect(tokens.decode(ExactText(text), of: ada) == .unusable)
        }
    }

    /// A place is not in the token, and each token for the same place is different.
    @Test func aTokenDoesNotTellItsPlace() throws {
        var seen: Set<String> = []
        for _ in 0..<100 {
            let token = try #require(tokens.encode(place, of: ada))
            #expect(seen.insert(token).inserted)
            let bytes = try #require(Base64.url.decode(Array(token.utf8)[...]))
            let plain = try #require(PlaceCoding.encode(place))
            #expect(!bytes.indices.contains { bytes[$0...].starts(with: plain.suffix(8)) })
        }
    }

    /// What has the right seal, but is not a place.
    @Test func bytesThatAreNoPlace() {
        let named = WatchSubject.jobs(Array(Self.ids.prefix(2)))
        let wrong: [[UInt8]] = [
            [], [0], [1], [1, 2, 0], [1, 2, 0, 1, 0], [1, 2, 0, 2, 2, 0], [1, 0], [1, 0, 0, 0], [2],
            [2, 1, 1],
            [1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 0, 0],
            [1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02, 0, 0],
        ]
        for bytes in wrong { #expect(PlaceCoding.decode(bytes, of: named) == nil) }
        for bytes: [UInt8] in [[2, 1], [2, 1, 5, 6], [2, 1, 0x80], [1, 0, 0]] {
            #expect(PlaceCoding.decode(bytes, of: ada) == nil)
        }
    }
}
