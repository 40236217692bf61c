import JobModel
import Support
import Testing

@testable import JobStore

/// Keys of tables in memory that callers make up: what Swift calls equal has hashes of its own.
@Suite struct SpellingTests {
    /// Seven marks on a letter, each time in another order: a half before the other, each turned round.
    private let texts: [String] = {
        let marks: [Unicode.Scalar] = [
            "\u{301}", "\u{323}", "\u{327}", "\u{345}", "\u{334}", "\u{3099}", "\u{93C}",
        ]
        return marks.indices.flatMap { start in
            let turned = marks[start...] + marks[..<start]
            return [Array(turned), turned.reversed()].map { order in
                var text = "e"
                text.unicodeScalars.append(contentsOf: order)
                return text
            }
        }
    }()

    @Test func ofUsersInLanes() {
        let names = texts.map { Catalog.LaneName(queue: "q", userID: ExactText($0)) }
        #expect(texts.allSatisfy { $0 == texts[0] } && Set(names).count == texts.count)
        #expect(Set(names.map(\.hashValue)).count == texts.count)
    }

    @Test func ofCallers() {
        for isName in [true, false] {
            let names = texts.map { text in
                JobCallers.Name(
                    caller: Caller(
                        name: isName ? text : "n", source: .token, address: isName ? "a" : text, users: .all))
            }
            #expect(Set(names).count == texts.count)
            #expect(Set(names.map(\.hashValue)).count == texts.count)
        }
    }

    /// Of labels, the database keeps two spellings of a key as two.
    @Test func ofLabels() async throws {
        let labels = Dictionary(uniqueKeysWithValues: texts.map { (ExactText($0), ExactText("of \($0)")) })
        try await Bench.with { bench in
            let id = try await bench.enqueue(JobSpec(kind: "k", userID: "u", labels: labels)).id
            let found = try #require(try await bench.store.job(id))
            #expect(found.spec.labels == labels && found.spec.labels.count == texts.count)
            for (key, value) in labels {
                var filter = JobFilter()
                filter.labels = [key: value]
                #expect(
                    try await bench.store.list(filter, for: .all, before: nil, size: 5).jobs.map(\.id) == [id]
                )
                filter.labels = [key: "of another"]
                #expect(try await bench.store.list(filter, for: .all, before: nil, size: 5).jobs.isEmpty)
            }
        }
    }
}
