/// Base64 as `-bin` metadata uses it: sent without padding, accepted with or without (PROTOCOL-HTTP2.md,
/// "Custom-Metadata").
enum Base64 {
    private static let alphabet = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        var encoded: [UInt8] = []
        var bits: UInt32 = 0
        var bitCount: UInt32 = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            bitCount += 8
            while bitCount >= 6 {
                bitCount -= 6
                encoded.append(alphabet[Int(bits >> bitCount & 0x3f)])
            }
        }
        if bitCount > 0 {
            encoded.append(alphabet[Int(bits << (6 - bitCount) & 0x3f)])
        }
        return encoded
    }

    /// Nil when it is not base64.
    static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(text.count * 3 / 4)
        var bits: UInt32 = 0
        var bitCount: UInt32 = 0
        var digits = 0
        var padding = 0
        for byte in text {
            if byte == 0x3d {
                padding += 1
                continue
            }
            guard padding == 0, let digit = digitValue(byte) else { return nil }
            digits += 1
            bits = bits << 6 | UInt32(digit)
            bitCount += 6
            if bitCount >= 8 {
                bitCount -= 8
                decoded.append(UInt8(truncatingIfNeeded: bits >> bitCount))
            }
        }
        guard digits % 4 != 1, padding == 0 || (padding <= 2 && (digits + padding) % 4 == 0) else {
            return nil
        }
        return decoded
    }

    private static func digitValue(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x41...0x5a: byte - 0x41
        case 0x61...0x7a: byte - 0x61 + 26
        case 0x30...0x39: byte - 0x30 + 52
        case 0x2b: 62
        case 0x2f: 63
        default: nil
        }
    }
}
