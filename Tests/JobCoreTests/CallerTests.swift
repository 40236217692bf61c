import JobCore
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
            #expect(users.contains(spellings[own]) && !users.contains(spellings[other]))
        }
        let both = UserScope.only(Set(spellings.map(ExactText.init(_:))))
        #expect(spellings.allSatisfy(both.contains))
    }

    @Test func exactTextIsAKey() {
        var counts: [ExactText: Int] = [:]
        for text in spellings + spellings + ["x"] { counts[ExactText(text), default: 0] += 1 }
        #expect(counts == [ExactText(spellings[0]): 2, ExactText(spellings[1]): 2, ExactText("x"): 1])
        #expect("".hasSameBytes(as: "") && !"".hasSameBytes(as: "a") && !"a".hasSameBytes(as: "ab"))
    }
}
