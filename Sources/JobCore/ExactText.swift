/// Text as a key, told apart by its bytes, as the database does.
///
/// For Swift two spellings of é are equal. As the ids of users they are two, and neither may see what is the other's.
package struct ExactText: Hashable, Sendable, ExpressibleByStringLiteral {
    package let text: String

    package init(_ text: String) {
        self.text = text
    }

    package init(stringLiteral text: String) {
        self.text = text
    }

    package static func == (left: ExactText, right: ExactText) -> Bool {
        left.text.hasSameBytes(as: right.text)
    }

    /// Of the bytes: for Swift's own hash all spellings are one, and of eight marks on a letter there are 40,320, which
    /// anybody can make up. They would all be in one chain of a table.
    package func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
        // In no UTF-8: where this text ends, whatever is combined behind it.
        hasher.combine(0xFF as UInt8)
    }
}

extension String {
    /// Not by `==` first, which puts both into normal form before it says no.
    package func hasSameBytes(as other: String) -> Bool {
        utf8.count == other.utf8.count && utf8.elementsEqual(other.utf8)
    }
}
