import JobModel
import Testing

@Suite struct PrincipalNameTests {
    @Test(arguments: [
        "ada", "Zoë", "e\u{301}", "字", "عمر", "a b", "a  b", "spiffe://example.org/a", "😀", "नमस्ते", "שָׁלוֹם",
        "a\\nb",
        "Ada Lovelace <ada@example.com>", String(repeating: "é", count: 128),
        "e" + String(repeating: "\u{301}", count: 8) + "e" + String(repeating: "\u{301}", count: 8),
        // The dots of Braille but for the blank, and a note with its head.
        "\u{2801}", "\u{1D15A}",
    ])
    func namesAreWhatPeopleSee(name: String) {
        #expect(PrincipalName.isValid(name))
    }

    @Test(arguments: [
        "", String(repeating: "é", count: 128) + "x", "root ", " root", "   ", " ",
        // More marks than writing needs, and marks with nothing to be on, which are drawn onto what comes before.
        "e" + String(repeating: "\u{301}", count: 9), "\u{301}", "\u{338}root",
        "a\u{335}\u{336}\u{337}\u{338}" + String(repeating: "\u{30F}", count: 30),
        "e" + String(repeating: "\u{20DD}", count: 9),
    ])
    func otherNames(name: String) {
        #expect(!PrincipalName.isValid(name))
    }

    @Test func charactersThatNoNameHas() {
        // In lines: what drives a terminal, hidden ones, blank ones, placeholders and private ones; no characters,
        // and none of the toolchain's version of Unicode.
        let refused: [UInt32] = [
            0, 0x0A, 0x1B, 0x7F, 0x85, 0x9B, 0x2028, 0x2029,
            0xAD, 0x34F, 0x61C, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x202A, 0x202E, 0x2060,
            0x2066,
            0x2069, 0x115F, 0x3164, 0xFE0F, 0xFEFF, 0xFFA0, 0xE0041,
            0xA0, 0x1680, 0x2000, 0x2009, 0x200A, 0x202F, 0x205F, 0x3000, 0x2800, 0x1D159, 0x13441, 0x13442,
            0x16FE4,
            0xFFFC, 0xFFFD, 0xE000, 0xF8FF, 0xF0000, 0x10_FFFD,
            0x378, 0xFDD0, 0xFFFE, 0x10_FFFF,
        ]
        for value in refused {
            guard let scalar = Unicode.Scalar(value) else { continue }
            for name in ["\(scalar)", "a\(scalar)", "\(scalar)a", "a\(scalar)b"] {
                #expect(!PrincipalName.isValid(name), "\(String(value, radix: 16))")
            }
        }
    }
}
