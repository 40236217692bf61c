/// Base64 (RFC 4648) without padding, as gRPC and JOSE send it. Foundation's, which JSON uses, has the first alphabet only
/// and always pads.
package struct Base64: Sendable {
    /// The form of `-bin` metadata (gRPC's PROTOCOL-HTTP2.md, "Custom-Metadata"): read with or without padding; trailing
    /// bits are ignored.
    package static let standard = Base64("+/", isStrict: false)

    /// The form of JOSE (RFC 7515, section 2): each value has exactly one encoding.
    package static let url = Base64("-_", isStrict: true)

    private static let notADigit: UInt8 = 0xFF

    private let digits: [UInt8]
    /// The value of each byte as a digit, or `notADigit`.
    private let values: [UInt8]
    private let isStrict: Bool

    /// - Parameters:
    ///   - lastDigits: for 62 and 63.
    ///   - isStrict: refuses padding and nonzero trailing bits.
    private init(_ lastDigits: String, isStrict: Bool) {
        digits = Array(
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" + lastDigits).utf8)
        var values = [UInt8](repeating: Self.notADigit, count: 256)
        for (value, digit) in digits.enumerated() { values[Int(digit)] = UInt8(value) }
        self.values = values
        self.isStrict = isStrict
    }

    package func encode(_ bytes: [UInt8]) -> [UInt8] {
        var encoded: [UInt8] = []
        encoded.reserveCapacity((bytes.count * 4 + 2) / 3)
        var bits: UInt32 = 0
        var bitCount: UInt32 = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            bitCount += 8
            while bitCount >= 6 {
                bitCount -= 6
                encoded.append(digits[Int(bits >> bitCount & 0x3F)])
            }
        }
        if bitCount > 0 {
            encoded.append(digits[Int(bits << (6 - bitCount) & 0x3F)])
        }
        return encoded
    }

    /// Nil when it is not base64.
    package func decode(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(text.count * 3 / 4)
        var bits: UInt32 = 0
        var bitCount: UInt32 = 0
        var digitCount = 0
        var padding = 0
        for byte in text {
            if byte == UInt8(ascii: "="), !isStrict {
                padding += 1
                continue
            }
            let value = values[Int(byte)]
            guard padding == 0, value != Self.notADigit else { return nil }
            digitCount += 1
            bits = bits << 6 | UInt32(value)
            bitCount += 6
            if bitCount >= 8 {
                bitCount -= 8
                decoded.append(UInt8(truncatingIfNeeded: bits >> bitCount))
            }
        }
        guard digitCount % 4 != 1 else { return nil }
        if isStrict { return bits & (1 << bitCount - 1) == 0 ? decoded : nil }
        return padding == 0 || (padding <= 2 && (digitCount + padding) % 4 == 0) ? decoded : nil
    }
}
