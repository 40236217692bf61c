internal import Crypto
internal import FoundationEssentials
internal import Support

/// The hash of a token. Only the hash is kept: it identifies the token but cannot be used as one.
package struct SHA256Hash: Sendable, Hashable, CustomStringConvertible {
    private static let prefix = "sha256:"

    private let words: SIMD4<UInt64>

    package init(of bytes: [UInt8]) {
        words = SHA256.hash(data: bytes).withUnsafeBytes { $0.loadUnaligned(as: SIMD4<UInt64>.self) }
    }

    package init(of text: String) {
        self.init(of: Array(text.utf8))
    }

    /// Parses `sha256:` and 64 hexadecimal digits.
    package init?(_ text: String) {
        guard text.utf8.starts(with: Self.prefix.utf8) else { return nil }
        let digits = text.utf8.dropFirst(Self.prefix.utf8.count)
        guard digits.count == 64, let bytes = Hex.decode(Array(digits)) else { return nil }
        words = bytes.withUnsafeBytes { $0.loadUnaligned(as: SIMD4<UInt64>.self) }
    }

    /// The form in the token file: `sha256:` and 64 hexadecimal digits.
    package var description: String {
        Self.prefix + Hex.encode(withUnsafeBytes(of: words) { Array($0) })
    }
}
