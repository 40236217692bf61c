import JobCore
import Testing

@Suite struct PrintableTextTests {
    @Test func plainTextIsNotChanged() {
        for text in ["", "a \\n b", "Zoë 字 😀 e\u{301}", "C:\\new"] {
            #expect(PrintableText.escaped(text) == text)
            #expect(PrintableText.escapedJSON(text) == text)
        }
    }

    @Test(arguments: [
        ("a\nb\r\tc", "a\\nb\\r\\tc"), ("\u{1B}[2J", "\\u{1B}[2J"), ("\0\u{7F}", "\\u{0}\\u{7F}"),
        // CSI as one scalar of C1, which terminals obey too.
        ("\u{9B}2J\u{85}", "\\u{9B}2J\\u{85}"),
        ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
        ("\u{61C}\u{200E}\u{200F}\u{202E}\u{2066}", "\\u{61C}\\u{200E}\\u{200F}\\u{202E}\\u{2066}"),
        (
            "\u{200B}\u{200D}\u{2060}\u{FEFF}\u{180E}\u{AD}",
            "\\u{200B}\\u{200D}\\u{2060}\\u{FEFF}\\u{180E}\\u{AD}"
        ),
        ("\u{E0041}", "\\u{E0041}"),
    ])
    func unprintableScalarsAreEscaped(text: String, escaped: String) {
        #expect(PrintableText.escaped(text) == escaped)
        #expect(PrintableText.escaped(text).unicodeScalars.allSatisfy { !PrintableText.isUnprintable($0) })
    }

    @Test func longTextIsCut() {
        for (text, cut) in [
            ("abcdef", "abcdef"), ("abcdefg", "abc…"), ("ab\n\n", "ab\\n\\n"), ("ab\n\nc", "ab…"),
            ("éééé", "é…"), ("é😀", "é😀"),
        ] {
            #expect(PrintableText.escaped(text, bytesMax: 6) == cut, "\(text)")
        }
        let text = "a\u{1B}é😀\n字"
        for bytesMax in 3...30 {
            let cut = PrintableText.escaped(text, bytesMax: bytesMax)
            #expect(cut.utf8.count <= bytesMax)
            #expect(
                cut.utf8.last == PrintableText.escaped(text).utf8.last
                    || cut.utf8.elementsEqual((cut.dropLast() + "…").utf8))
        }
    }

    /// A run of combining marks is one character, which takes very long to look at as such.
    @Test(.timeLimit(.minutes(1))) func marksTakeNoLongerThanOtherText() {
        let marks = String(repeating: "\u{301}\u{323}", count: 500_000) + "\n"
        #expect(PrintableText.escaped(marks).utf8.count == marks.utf8.count + 1)
        #expect(PrintableText.escaped(marks, bytesMax: 4096).utf8.count <= 4096)
    }

    @Test func jsonStaysTheSameJSON() {
        #expect(
            PrintableText.escapedJSON("{\"a\":\"\u{9B}2J\u{7F}\u{2028}\u{E0041}é\"}")
                == "{\"a\":\"\\u009b2J\\u007f\\u2028\\udb40\\udc41é\"}")
    }

    @Test func namesAreWhatPeopleSee() {
        func mayBeName(_ text: String) -> Bool { text.unicodeScalars.allSatisfy(PrintableText.mayBeInName) }
        for name in ["ada", "Zoë", "e\u{301}", "字", "عمر", "a b", "spiffe://example.org/a", "😀"] {
            #expect(mayBeName(name), "\(name)")
        }
        // Those that end the list are no characters, or none of the toolchain's version of Unicode.
        let refused: [UInt32] = [
            0, 0x0A, 0x1B, 0x7F, 0x85, 0x9B, 0xAD, 0x34F, 0x61C, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E,
            0x200F,
            0x2028, 0x2029, 0x202A, 0x202E, 0x2060, 0x2066, 0x2069, 0x3164, 0xFE0F, 0xFEFF, 0xE0041, 0x378,
            0xFDD0, 0xFFFE, 0x10_FFFF,
        ]
        for value in refused {
            let scalar = Unicode.Scalar(value)
            #expect(scalar.map(PrintableText.mayBeInName) == false, "\(String(value, radix: 16))")
        }
    }
}
