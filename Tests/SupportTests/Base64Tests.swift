import Support
import Testing

@Suite struct Base64Tests {
    /// RFC 4648, section 10, without padding.
    @Test(
        arguments: [
            ("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ])
    func examples(_ text: String, _ encoded: String) {
        for form in [Base64.standard, .url] {
            #expect(form.encode(Array(text.utf8)) == Array(encoded.utf8))
            #expect(decode(form, encoded) == Array(text.utf8))
        }
    }

    @Test func everyByteAndBothAlphabets() {
        let bytes = Array(UInt8.min ... .max)
        for form in [Base64.standard, .url] { #expect(form.decode(form.encode(bytes)[...]) == bytes) }
        #expect(Base64.standard.encode([0xFB, 0xFF]) == Array("+/8".utf8))
        #expect(Base64.url.encode([0xFB, 0xFF]) == Array("-_8".utf8))
        #expect(decode(.standard, "-_8") == nil && decode(.url, "+/8") == nil)
    }

    @Test func standardIsReadWithOrWithoutPadding() {
        for count in 0..<20 {
            let bytes = (0..<count).map { UInt8($0 * 13 & 0xFF) }
            let encoded = Base64.standard.encode(bytes)
            let padding = Array(repeating: UInt8(ascii: "="), count: (4 - encoded.count % 4) % 4)
            #expect(Base64.standard.decode((encoded + padding)[...]) == bytes)
        }
        // The last four bits are part of no byte.
        #expect(decode(.standard, "Zh") == Array("f".utf8))
        for wrong in ["A", "AA=A", "AA=", "A A", "====", "AAAAA", "Zm9v\n", "Zmé"] {
            #expect(decode(.standard, wrong) == nil, "\(wrong)")
        }
    }

    /// One spelling each: bits that are part of no byte are zero.
    @Test(arguments: ["A", "AAAAA", "Zh", "Zm9", "Zg=", "Zg==", "Zm 9v", "Zm9v\n", "Zmé"])
    func urlIsNothingElse(_ text: String) {
        #expect(decode(.url, text) == nil)
    }

    private func decode(_ form: Base64, _ text: String) -> [UInt8]? { form.decode(Array(text.utf8)[...]) }
}
