import Support
import Testing

@Suite struct ExactTextTests {
    /// A letter with so many marks that Swift takes seconds to compare two of it, or to hash one.
    private static func marks(_ last: String) -> String {
        "a" + String(repeating: "\u{345}\u{334}", count: 32_000) + last
    }

    @Test func twoSpellingsAreTwoTexts() {
        let spellings = ["\u{E9}", "e\u{301}"]
        #expect(spellings[0] == spellings[1])
        let texts = spellings.map { ExactText($0) }
        #expect(texts[0] != texts[1] && Set(texts).count == 2)
        // "e" is before the first byte of é.
        #expect(texts[1] < texts[0] && texts.sorted() == [texts[1], texts[0]])
    }

    @Test(.timeLimit(.minutes(3))) func marksAreComparedAndHashedInNoTime() {
        let texts = ["x", "y", "x"].map { ExactText(Self.marks($0)) }
        for _ in 0..<100 {
            #expect(texts[0] != texts[1] && texts[0] == texts[2] && texts[0] < texts[1])
            #expect(Set(texts).count == 2)
            #expect(!texts[0].starts(with: "b") && texts[0].starts(with: "a") && texts[0].ends(with: "x"))
        }
    }

    @Test func beginningsAndEnds() {
        let text: ExactText = "grpc-data-bin"
        #expect(text.starts(with: "grpc-") && !text.starts(with: "grpc_") && text.starts(with: ""))
        #expect(text.ends(with: "-bin") && !text.ends(with: "-bi") && text.ends(with: ""))
        #expect(!ExactText("bin").ends(with: "-bin") && !ExactText("g").starts(with: "grpc-"))
    }

    @Test func onlyASCIIIsMadeLowerCase() {
        #expect(ExactText("Content-TYPE_Z@[`{").lowercasedASCII == "content-type_z@[`{")
        #expect(ExactText("ÄÉ\u{130}").lowercasedASCII == "ÄÉ\u{130}")
        #expect(ExactText("").lowercasedASCII == "")
    }

    @Test(arguments: ["\0", "\u{1}", "a\n", "\r", "\u{1B}[31m", "\u{1F}", "\u{7F}", "é\u{80}", "\u{9F}"])
    func controlCharacters(_ text: String) {
        #expect(ExactText(text).hasControlCharacter)
    }

    /// Those beside them, and some whose bytes are like theirs.
    @Test(arguments: ["", " ", "~", "\u{A0}", "À\u{80F}", "\u{E080}", "\u{1F600}", "e\u{301}"])
    func noControlCharacters(_ text: String) {
        #expect(!ExactText(text).hasControlCharacter)
    }
}
