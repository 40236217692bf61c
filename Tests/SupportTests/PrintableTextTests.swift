import Support
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
    @Test(.timeLimit(.minutes(3))) func marksTakeNoLongerThanOtherText() {
        let marks = String(repeating: "\u{301}\u{323}", count: 500_000) + "\n"
        #expect(PrintableText.escaped(marks).utf8.count == marks.utf8.count + 1)
        #expect(PrintableText.escaped(marks, bytesMax: 4096).utf8.count <= 4096)
    }

    @Test func jsonStaysTheSameJSON() {
        #expect(
            PrintableText.escapedJSON("{\"a\":\"\u{9B}2J\u{7F}\u{2028}\u{E0041}é\"}")
                == "{\"a\":\"\\u009b2J\\u007f\\u2028\\udb40\\udc41é\"}")
    }

    @Test(arguments: [
        ("", ""), ("ada", "ada"), ("a/b:c@d,e(f){g}'h'", "a/b:c@d,e(f){g}'h'"), ("Zoë字😀", "Zoë字😀"),
        ("a b", #""a b""#), (" ", #"" ""#), ("a=b", #""a=b""#), ("[x", #""[x""#), ("x]", #""x]""#),
        (#"a"b"#, #""a\"b""#), (#"a\nb"#, #""a\\nb""#), ("a\nb", #""a\nb""#), ("\u{1B}", #""\u{1B}""#),
        ("\\", #""\\""#), ("a\u{A0}b", "\"a\u{A0}b\""), ("\u{2800}", "\"\u{2800}\""),
        ("\u{3000}", "\"\u{3000}\""),
        (
            #"eve count=1 reason=none [SignalboxAPI] call admitted"#,
            #""eve count=1 reason=none [SignalboxAPI] call admitted""#
        ),
        (#"eve" count=1"#, #""eve\" count=1""#), (#"eve\" count=1"#, #""eve\\\" count=1""#),
    ])
    func valuesAreQuoted(value: String, quoted: String) {
        #expect(PrintableText.quoted(value).utf8.elementsEqual(quoted.utf8), "\(PrintableText.quoted(value))")
    }

    @Test func quotedValuesAreCutWithinTheirQuotes() {
        let text = "a\\\u{1B}\"é😀\n字 x"
        for bytesMax in 5...50 {
            let cut = PrintableText.quoted(text, bytesMax: bytesMax)
            #expect(cut.utf8.count <= bytesMax)
            #expect(cut.hasPrefix("\"") && cut.hasSuffix("\"") && !cut.hasSuffix("\\\""), "\(cut)")
            #expect(cut.hasSuffix("…\"") || cut == PrintableText.quoted(text))
        }
        #expect(PrintableText.quoted("abcdefg", bytesMax: 6) == "abc…")
    }
}
