import Support
import Testing

@Suite struct HexTests {
    @Test func everyByte() {
        let bytes = Array(UInt8.min ... .max)
        let encoded = Hex.encode(bytes)
        #expect(encoded.hasPrefix("00010203") && encoded.hasSuffix("fdfeff"))
        #expect(Hex.decode(Array(encoded.utf8)) == bytes)
        #expect(Hex.decode(Array(encoded.uppercased().utf8)) == bytes)
        #expect(Hex.encode([]) == "" && Hex.decode([]) == [])
    }

    @Test func digits() {
        #expect((0..<16).map { Hex.digit($0) } == Array("0123456789abcdef".utf8))
        #expect((0..<16).map { Hex.digit($0, isUppercase: true) } == Array("0123456789ABCDEF".utf8))
        let digits = (UInt8.min ... .max).filter { Hex.value(of: $0) != nil }
        #expect(digits == Array("0123456789ABCDEFabcdef".utf8))
    }

    @Test(arguments: ["0", "000", "0g", "g0", " 0", "0x", "é"])
    func nothingElse(_ text: String) {
        #expect(Hex.decode(Array(text.utf8)) == nil)
    }
}
