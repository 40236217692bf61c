import FoundationEssentials
import Support
import Synchronization

/// Writes the JSON of `--json`.
enum JSONLine {
    /// A value as one line of JSON, with keys in snake_case and in alphabetical order, and without nil values.
    /// Control characters, which could drive a terminal, are escaped as in JSON.
    static func text(_ value: some Encodable) throws -> String {
        let embedded = EmbeddedJSON()
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.userInfo[EmbeddedJSON.key] = embedded
        let line = embedded.replacePlaceholders(in: try encoder.encode(value))
        return PrintableText.escapedJSON(String(decoding: line, as: UTF8.self))
    }

    static func write(_ value: some Encodable) throws {
        try Terminal.write(text(value) + "\n")
    }
}

/// The JSON of a payload or a result, to be printed inside other JSON: unchanged, but without white space between
/// its tokens. It is not decoded, because decoding takes time that grows with its size times its depth, and
/// rounds its numbers.
///
/// Only `JSONLine` can encode it.
struct RawJSON: Encodable, Sendable {
    fileprivate let bytes: [UInt8]

    /// Nil if the bytes are not valid JSON (`JSONText`).
    init?(_ bytes: [UInt8]) {
        guard JSONText.isValid(bytes) else { return nil }
        self.bytes = Self.withoutSpace(bytes)
    }

    func encode(to encoder: any Encoder) throws {
        guard let embedded = encoder.userInfo[EmbeddedJSON.key] as? EmbeddedJSON else {
            throw EncodingError.invalidValue(
                self, .init(codingPath: encoder.codingPath, debugDescription: "only a JSONLine has raw JSON"))
        }
        var container = encoder.singleValueContainer()
        try container.encode(embedded.placeholder(for: self))
    }

    /// Removes white space outside strings. A quotation mark ends a string unless an unescaped backslash precedes
    /// it.
    private static func withoutSpace(_ json: [UInt8]) -> [UInt8] {
        var kept: [UInt8] = []
        kept.reserveCapacity(json.count)
        var isInString = false
        var isEscaped = false
        for byte in json {
            if isInString {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    isInString = false
                }
            } else {
                switch byte {
                case 0x20, 0x09, 0x0A, 0x0D: continue
                default: isInString = byte == UInt8(ascii: "\"")
                }
            }
            kept.append(byte)
        }
        return kept
    }
}

/// Stands in for raw JSON while a line is encoded, because Foundation's encoder writes only its own JSON.
///
/// A placeholder is a string with a new random UUID, so no text of a job can contain it.
private final class EmbeddedJSON: Sendable {
    static let key: CodingUserInfoKey = {
        guard let key = CodingUserInfoKey(rawValue: "EmbeddedJSON") else {
            preconditionFailure("every text is a key")
        }
        return key
    }()

    private let prefix = UUID().uuidString + " "
    private let values = Mutex<[RawJSON]>([])

    func placeholder(for value: RawJSON) -> String {
        values.withLock {
            $0.append(value)
            return "\(prefix)\($0.count - 1)"
        }
    }

    /// Replaces the placeholders in a line by their JSON.
    func replacePlaceholders(in line: Data) -> [UInt8] {
        let values = values.withLock { $0 }
        var parts = Array(line).split(separator: Array("\"\(prefix)".utf8), omittingEmptySubsequences: false)[
            ...]
        var replaced = Array(parts.removeFirst())
        for part in parts {
            // The part begins with the number of the value and the quotation mark that ends the placeholder.
            let number = part.prefix { $0 != UInt8(ascii: "\"") }
            let index = number.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
            replaced += values[index].bytes
            replaced += part.dropFirst(number.count + 1)
        }
        return replaced
    }
}
