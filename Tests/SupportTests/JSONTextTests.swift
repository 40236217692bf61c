import Foundation
import Support
import TestRandom
import Testing

@Suite struct JSONTextTests {
    @Test(arguments: [
        "null", "true", "false", "0", "-0", "1", "-12", "0.5", "1.25e3", "1E+2", "1e-2", "0e0", "\"\"",
        "\"a\"", #""\"\\\/\b\f\n\r\t""#, #""\u0041\uD83D\uDE00\uabcd""#, "\"é😀\u{7F}\"", "[]", "[ ]", "{}",
        "{ }", " [1 , 2] ", "\t\n\r {\"a\" : {\"b\" : [null, true, {\"c\":\"\"}]}}\n",
        "{\"a\":1,\"a\":2}", "12345678901234567890123", "[[[[]]]]", "1e400", "-1.0e-400", "[0,-0.0]",
    ])
    func isJSON(_ text: String) {
        #expect(JSONText.isValid(Array(text.utf8)))
    }

    @Test(arguments: [
        "", " ", "nul", "nulll", "True", "+1", "01", "-", "-a", "1.", ".5", "1e", "1e+", "0x1", "1 2", "NaN",
        "Infinity", "-Infinity", "\"", "\"a", #""\x""#, #""\u12""#, #""\u12g4""#, #""\"#, "\"\n\"",
        "\"\u{0}\"",
        "'a'", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{", "}", "{\"a\"", "{\"a\":", "{\"a\":1",
        "{\"a\":1,}", "{,}", "{a:1}", "{1:1}", "{\"a\" 1}", "{\"a\":}", "[}", "{]", "\u{FEFF}null", "// c\n1",
        "null\u{0}", "\u{B}1", "\u{A0}1", "--1", "1-", "00", "-01", "1.e1", "tru e", "[1]]", "{}{}",
    ])
    func isNotJSON(_ text: String) {
        #expect(!JSONText.isValid(Array(text.utf8)))
    }

    @Test func bytesThatAreNotUTF8() {
        for bytes: [UInt8] in [
            [0x22, 0xFF, 0x22], [0x22, 0xC3, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0xC0, 0x80, 0x22],
            [0xFF], [0x22, 0xF4, 0x90, 0x80, 0x80, 0x22],
        ] {
            #expect(!JSONText.isValid(bytes))
        }
    }

    @Test func nestingUpToTheLimit() {
        func nested(_ depth: Int, _ open: String, _ close: String, _ inner: String = "") -> [UInt8] {
            Array(
                (String(repeating: open, count: depth) + inner + String(repeating: close, count: depth)).utf8)
        }
        let limit = JSONText.depthMax
        #expect(JSONText.isValid(nested(limit, "[", "]")))
        #expect(!JSONText.isValid(nested(limit + 1, "[", "]")))
        #expect(JSONText.isValid(nested(limit, "{\"a\":", "}", "1")))
        #expect(!JSONText.isValid(nested(limit + 1, "{\"a\":", "}", "1")))
        // A million brackets do not use up the stack.
        #expect(!JSONText.isValid([UInt8](repeating: UInt8(ascii: "["), count: 1 << 20)))
    }

    /// Mutations of valid documents, judged by Foundation too.
    @Test func agreesWithFoundation() {
        let seeds = [
            #"{"a":[1,2.5,-3e2,true,false,null],"b":{"c":"d\n\u00e9"},"é":"😀"}"#, "[[],{},\"\",0]",
            "-12.5e+3",
            #""text \\ \" / \u0041""#, " { \"k\" : [ 1 , 2 ] } ", "null", "[{\"x\":{\"y\":[[1]]}}]",
        ]
        let alphabet =
            Array(#"{}[],:"\/ 0123456789.-+eEtruefalsnubx"#.utf8) + [0x0A, 0x00, 0x7F, 0xC3, 0xA9, 0xFF]
        var random = SeededRandom(seed: 20_240_703)
        var (valid, invalid) = (0, 0)
        for _ in 0..<10_000 {
            var bytes = Array((seeds.randomElement(using: &random) ?? "").utf8)
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let at = Int.random(in: 0..<max(1, bytes.count), using: &random)
                let byte = alphabet.randomElement(using: &random) ?? 0
                switch Int.random(in: 0..<4, using: &random) {
                case 0 where at < bytes.count: bytes[at] = byte
                case 1 where at < bytes.count: bytes.remove(at: at)
                case 2 where at < bytes.count: bytes.insert(bytes[at], at: at)
                default: bytes.insert(byte, at: min(at, bytes.count))
                }
            }
            let ours = JSONText.isValid(bytes)
            if ours { valid += 1 } else { invalid += 1 }
            if isKnownDifference(bytes) { continue }
            let theirs =
                (try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)) != nil
            #expect(ours == theirs, "\(String(decoding: bytes, as: UTF8.self))")
        }
        // Both kinds came up often.
        #expect(valid > 1000 && invalid > 1000)
    }

    /// What Foundation judges otherwise, beside the depth: it guesses UTF-16 and UTF-32 from NUL bytes, lets a
    /// comma end a list, and refuses numbers beyond Double and half surrogate pairs, which RFC 8259 lets pass.
    private func isKnownDifference(_ bytes: [UInt8]) -> Bool {
        let text = String(decoding: bytes, as: UTF8.self)
        return bytes.contains(0) || text.contains(/[eE][+]?[0-9]{3,}/) || text.contains(/\\u[dD]/)
            || text.contains(/,[ \n]*[\]}]/)
    }

    @Test func keysUpToTheLimit() {
        func object(_ count: Int, _ inner: String = "1") -> [UInt8] {
            Array("{\"a\":[{\"\(String(repeating: "k", count: count))\":\(inner)}]}".utf8)
        }
        let limit = JSONText.keyBytesMax
        #expect(JSONText.verdict(on: object(limit)) == .valid)
        #expect(JSONText.verdict(on: object(limit + 1)) == .keyTooLong)
        #expect(!JSONText.isValid(object(limit + 1)))
        // A long value is none, and what is no JSON is none whatever its keys.
        #expect(JSONText.verdict(on: object(1, "\"\(String(repeating: "v", count: 5_000))\"")) == .valid)
        #expect(JSONText.verdict(on: object(limit + 1, "1,")) == .invalid)
    }
}
