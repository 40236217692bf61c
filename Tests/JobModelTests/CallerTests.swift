import JobModel
import Support
import Testing

@Suite struct CallerTests {
    /// The same letter, as one code point and as two.
    private let spellings = ["\u{E9}ve", "e\u{301}ve"]

    @Test func usersInScope() {
        #expect(UserScope.all.contains("a") && UserScope.all.contains(""))
        #expect(UserScope.only(["a", "b"]).contains("b"))
        #expect(!UserScope.only(["a", "b"]).contains("c") && !UserScope.only([]).contains(""))
        #expect(!UserScope.only(["Ada"]).contains("ada") && !UserScope.only(["ada"]).contains("ada "))
    }

    @Test func anotherSpellingIsAnotherUser() {
        #expect(spellings[0] == spellings[1])
        for (own, other) in [(0, 1), (1, 0)] {
            let users = UserScope.only([ExactText(spellings[own]), "x"])
            #expect(users.contains(ExactText(spellings[own])) && !users.contains(ExactText(spellings[other])))
        }
        let both = UserScope.only(Set(spellings.map(ExactText.init(_:))))
        #expect(spellings.allSatisfy { both.contains(ExactText($0)) })
    }

    @Test func exactTextIsAKey() {
        var counts: [ExactText: Int] = [:]
        for text in spellings + spellings + ["x"] { counts[ExactText(text), default: 0] += 1 }
        #expect(counts == [ExactText(spellings[0]): 2, ExactText(spellings[1]): 2, ExactText("x"): 1])
        #expect("".hasSameBytes(as: "") && !"".hasSameBytes(as: "a") && !"a".hasSameBytes(as: "ab"))
        #expect(!spellings[0].hasSameBytes(as: spellings[1]) && !"a".hasSameBytes(as: "b"))
    }

    /// Texts that Swift calls equal can be made up by the thousand: they must not all be in one chain of a table.
    @Test func spellingsHaveHashesOfTheirOwn() {
        let texts = Self.spellings(count: 5_000).map(ExactText.init(_:))
        #expect(texts.allSatisfy { $0.text == texts[0].text } && Set(texts).count == 5_000)
        #expect(Set(texts.map(\.hashValue)).count > 4_990)
        #expect(ExactText("a").hashValue == ExactText("a").hashValue)
        // Where one text ends and the next begins counts.
        #expect([ExactText("a"), "bc"].hashValue != [ExactText("ab"), "c"].hashValue)
    }

    /// The same marks on a letter, each time in another order.
    private static func spellings(count: Int) -> [String] {
        // Each of another class, so that their order means nothing.
        let marks: [Unicode.Scalar] = [
            "\u{301}", "\u{323}", "\u{327}", "\u{345}", "\u{334}", "\u{3099}", "\u{93C}", "\u{5B0}",
        ]
        return (0..<count).map { number in
            var (number, left, text) = (number, marks, "e")
            while !left.isEmpty {
                text.unicodeScalars.append(left.remove(at: number % left.count))
                number /= left.count + 1
            }
            return text
        }
    }
}
