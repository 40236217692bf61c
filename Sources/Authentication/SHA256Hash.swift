internal import Crypto
internal import FoundationEssentials

/// What is kept of a token: enough to know it again, not enough to use it.
package struct SHA256Hash: Sendable, Hashable, CustomStringConvertible {
    private static let prefix = "sha256:"

    private let words: SIMD4<UInt64>

    package init(of bytes: [UInt8]) {
        words = SHA256.hash(data: bytes).withUnsafeBytes { $0.loadUnaligned(as: SIMD4<UInt64>.self) }
    }

    package init(of text: String) {
        self.init(of: Array(text.utf8))
    }

    /// From `sha256:` and 64 hexadecimal digits.
    package init?(_ text: String) {
        guard text.utf8.starts(with: Self.prefix.utf8) else { return nil }
        let digits = text.utf8.dropFirst(Self.prefix.utf8.count)
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        for digit in digits {
            guard let value = Self.value(ofHex: digit) else { return nil }
            bytes.append(value)
        }
        words = stride(from: 0, to: 64, by: 2).map { bytes[$0] << 4 | bytes[$0 + 1] }
            .withUnsafeBytes { $0.loadUnaligned(as: SIMD4<UInt64>.self) }
    }

    /// As the token file has it.
    package var description: String {
        let digits = Array("0123456789abcdef".utf8)
        let hex = withUnsafeBytes(of: words) { bytes in
            bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 0xf)]] }
        }
        return Self.prefix + String(decoding: hex, as: UTF8.self)
    }

    private static func value(ofHex digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
