internal import HTTP2
internal import Support

/// The custom metadata of a call: an ordered multimap (PROTOCOL-HTTP2.md, "Custom-Metadata").
///
/// Keys are lower case. A key that ends in `-bin` has bytes for values, any other has text.
package struct Metadata: Sendable, Equatable, ExpressibleByDictionaryLiteral {
    enum Content: Sendable, Equatable {
        case text(String)
        case bytes([UInt8])
    }

    struct Entry: Sendable, Equatable {
        var key: ExactText
        var value: Content
    }

    private(set) var entries: [Entry] = []

    package init() {}

    /// `["key": "value"]`; keys that end in `-bin` cannot be written so.
    package init(dictionaryLiteral elements: (String, String)...) {
        for (key, value) in elements {
            add(value, for: key)
        }
    }

    package var isEmpty: Bool { entries.isEmpty }

    /// Adds a text value. Characters that HTTP does not carry in a field become '?'; a key of gRPC's or HTTP's
    /// own (`grpc-…`, `:…`, `te`, `content-type`) is not sent.
    package mutating func add(_ value: String, for key: String) {
        let key = ExactText(key).lowercasedASCII
        precondition(!key.ends(with: "-bin"), "a -bin key has bytes for its value")
        entries.append(Entry(key: key, value: .text(value)))
    }

    /// Adds bytes; the key must end in `-bin`.
    package mutating func add(bytes value: [UInt8], for key: String) {
        let key = ExactText(key).lowercasedASCII
        precondition(key.ends(with: "-bin"), "only a -bin key has bytes for its value")
        entries.append(Entry(key: key, value: .bytes(value)))
    }

    /// The first text value of the key.
    package subscript(_ key: String) -> String? {
        values(for: key).first
    }

    /// All text values of the key, in order.
    package func values(for key: String) -> [String] {
        let key = ExactText(key).lowercasedASCII
        return entries.compactMap { entry in
            guard entry.key == key, case .text(let text) = entry.value else { return nil }
            return text
        }
    }

    /// All values of a `-bin` key, in order.
    package func bytes(for key: String) -> [[UInt8]] {
        let key = ExactText(key).lowercasedASCII
        return entries.compactMap { entry in
            guard entry.key == key, case .bytes(let bytes) = entry.value else { return nil }
            return bytes
        }
    }
}

extension Metadata {
    /// The custom metadata among received fields. A `-bin` value that is not base64 is left out.
    init(_ block: HeaderBlock) {
        for field in block.fields {
            guard field.name.first != UInt8(ascii: ":") else { continue }
            let key = ExactText(decoding: field.name)
            guard !Self.isReserved(key) else { continue }
            if key.ends(with: "-bin") {
                for part in field.value.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
                {
                    guard let bytes = Base64.standard.decode(part.trimmingSpaces) else { continue }
                    entries.append(Entry(key: key, value: .bytes(bytes)))
                }
            } else {
                let text = String(decoding: field.value, as: UTF8.self)
                entries.append(Entry(key: key, value: .text(text)))
            }
        }
    }

    func append(to fields: inout HeaderFields) {
        for entry in entries where !Self.isReserved(entry.key) && Self.isValid(key: entry.key) {
            switch entry.value {
            case .bytes(let bytes):
                fields.append(entry.key.text, Base64.standard.encode(bytes))
            case .text(let text):
                fields.append(
                    entry.key.text, text.utf8.map { (0x20...0x7e).contains($0) ? $0 : UInt8(ascii: "?") })
            }
        }
    }

    /// Fields that are the protocol's, not the application's.
    private static func isReserved(_ key: ExactText) -> Bool {
        if key.starts(with: "grpc-") || key.starts(with: ":") { return true }
        // exact: an ExactText
        return key == "te" || key == "content-type" || key == "host" || key == "connection"
    }

    /// "Header-Name → 1*( %x30-39 / %x61-7A / "_" / "-" / ".")"
    private static func isValid(key: ExactText) -> Bool {
        !key.isEmpty
            && key.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x61...0x7a, UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."): true
                default: false
                }
            }
    }
}

extension ArraySlice<UInt8> {
    var trimmingSpaces: ArraySlice<UInt8> {
        var slice = self
        while slice.first == 0x20 { slice.removeFirst() }
        while slice.last == 0x20 { slice.removeLast() }
        return slice
    }
}
