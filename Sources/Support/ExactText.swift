/// Text from outside, compared, ordered and hashed by its bytes, as the database does it.
///
/// Swift's `String` is compared and hashed in normal form. Two spellings of é are then equal, though they are two users
/// in the database, and putting a base letter with thousands of combining marks into normal form takes time that grows
/// with the square of their number. So text that a peer, a command or a foreign file gave is held as this type,
/// and its length is checked first. `scripts/check-architecture` looks for texts that are compared in another way.
package struct ExactText: Hashable, Comparable, Sendable, ExpressibleByStringInterpolation,
    CustomStringConvertible
{
    package let text: String

    package init(_ text: String) {
        self.text = text
    }

    package init(stringLiteral text: String) {
        self.text = text
    }

    /// Bytes that are not UTF-8 are repaired.
    package init(decoding bytes: some Collection<UInt8>) {
        text = String(decoding: bytes, as: UTF8.self)
    }

    package var description: String { text }

    package var isEmpty: Bool { text.utf8.isEmpty }

    package var utf8: String.UTF8View { text.utf8 }

    /// Nil for the empty text.
    package var nonEmpty: ExactText? { isEmpty ? nil : self }

    package static func == (left: ExactText, right: ExactText) -> Bool {
        left.text.utf8.count == right.text.utf8.count && left.text.utf8.elementsEqual(right.text.utf8)
    }

    package static func < (left: ExactText, right: ExactText) -> Bool {
        left.text.utf8.lexicographicallyPrecedes(right.text.utf8)
    }

    /// The bytes are hashed: the eight orders of eight marks on a letter make 40,320 texts that are one to Swift's own
    /// hash, and all of them would share one chain of a table.
    package func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        // This byte is not part of any UTF-8, so it separates the text from what is combined after it.
        hasher.combine(0xFF as UInt8)
    }

    package func starts(with prefix: StaticString) -> Bool {
        prefix.withUTF8Buffer { text.utf8.starts(with: $0) }
    }

    package func ends(with suffix: StaticString) -> Bool {
        suffix.withUTF8Buffer { suffix in
            text.utf8.count >= suffix.count && text.utf8.suffix(suffix.count).elementsEqual(suffix)
        }
    }

    /// A–Z become a–z; all other characters stay.
    package var lowercasedASCII: ExactText {
        guard text.utf8.contains(where: { (0x41...0x5A).contains($0) }) else { return self }
        return ExactText(decoding: text.utf8.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 })
    }

    /// Whether it holds a control character: U+0000 to U+001F, U+007F, or U+0080 to U+009F.
    package var hasControlCharacter: Bool {
        var previous: UInt8 = 0
        for byte in text.utf8 {
            // In UTF-8, U+0080 to U+009F are C2 80 to C2 9F, and C2 is nothing but a first byte.
            if byte < 0x20 || byte == 0x7F || (previous == 0xC2 && byte < 0xA0) { return true }
            previous = byte
        }
        return false
    }
}

extension String {
    /// `==` would put both texts into normal form first.
    package func hasSameBytes(as other: String) -> Bool {
        utf8.count == other.utf8.count && utf8.elementsEqual(other.utf8)
    }
}
