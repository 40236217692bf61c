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

    /// What has the same bytes is equal, and so has the same hash.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(text)
    }
}

extension String {
    package func hasSameBytes(as other: String) -> Bool {
        self == other && utf8.elementsEqual(other.utf8)
    }
}
