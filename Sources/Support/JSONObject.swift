/// The members of a JSON object, in their order, with the text of their values: a checkpoint or a result must come out byte
/// for byte as it was written, which a parser that builds numbers cannot promise.
///
/// Keys are compared by their bytes, never put into a table of Foundation's.
package struct JSONObject {
    package struct Member {
        /// The key as it is written, with its quotes.
        package let quotedKey: ArraySlice<UInt8>
        package let value: ArraySlice<UInt8>

        /// Whether the key is this name, which is ASCII and needs no escapes.
        package func isNamed(_ name: StaticString) -> Bool {
            quotedKey.dropFirst().dropLast().elementsEqual(name)
        }
    }

    package let members: [Member]

    /// Nil where the value is no object. The bytes must be valid JSON (`JSONText`).
    package init?(_ json: ArraySlice<UInt8>) {
        guard var reader = MemberReader(json) else { return nil }
        var members: [Member] = []
        while let member = reader.next() { members.append(member) }
        self.members = members
    }

    /// The value of the member with this name; the last one's, where there are several.
    package subscript(_ name: StaticString) -> ArraySlice<UInt8>? {
        members.last { $0.isNamed(name) }?.value
    }

    /// The first key, with its quotes, of an object that may be incomplete.
    package static func firstKey(of json: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard var reader = MemberReader(json) else { return nil }
        return reader.key()
    }
}

extension ArraySlice<UInt8> {
    fileprivate func elementsEqual(_ name: StaticString) -> Bool {
        name.withUTF8Buffer { elementsEqual($0) }
    }
}

/// Walks the members of an object.
private struct MemberReader {
    private let bytes: ArraySlice<UInt8>
    private var position: Int

    init?(_ json: ArraySlice<UInt8>) {
        bytes = json
        position = json.startIndex
        skipSpace()
        guard position < bytes.endIndex, bytes[position] == UInt8(ascii: "{") else { return nil }
        position += 1
    }

    mutating func key() -> ArraySlice<UInt8>? {
        skipSpace()
        guard position < bytes.endIndex, bytes[position] == UInt8(ascii: "\"") else { return nil }
        let start = position
        skipString()
        return bytes[start..<position]
    }

    mutating func next() -> JSONObject.Member? {
        guard let key = key() else { return nil }
        skipSpace()
        position += 1  // the colon
        skipSpace()
        let start = position
        skipValue()
        var end = position
        while end > start, isSpace(bytes[end - 1]) { end -= 1 }
        position = min(position + 1, bytes.endIndex)  // the comma, or the brace at the end
        return JSONObject.Member(quotedKey: key, value: bytes[start..<end])
    }

    /// To the comma or the brace after the value.
    private mutating func skipValue() {
        var depth = 0
        while position < bytes.endIndex {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                skipString()
                continue
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: ","):
                if depth == 0 { return }
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                if depth == 0 { return }
                depth -= 1
            default: break
            }
            position += 1
        }
    }

    /// From the opening quote to after the closing one.
    private mutating func skipString() {
        position += 1
        while position < bytes.endIndex {
            let byte = bytes[position]
            position += byte == UInt8(ascii: "\\") ? 2 : 1
            if byte == UInt8(ascii: "\"") { return }
        }
        position = bytes.endIndex
    }

    private mutating func skipSpace() {
        while position < bytes.endIndex, isSpace(bytes[position]) { position += 1 }
    }

    private func isSpace(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x0D || byte == 0x0A
    }
}
