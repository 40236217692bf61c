import FoundationEssentials
import JobCore

/// JSON as `--json` prints it.
enum JSONLine {
    /// One line, keys in snake_case and in the order of the alphabet; what is nil is left out. Nothing in it drives a
    /// terminal: what could is escaped, as JSON has it.
    static func text(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return PrintableText.escapedJSON(String(decoding: try encoder.encode(value), as: UTF8.self))
    }

    static func write(_ value: some Encodable) throws {
        try Terminal.write(text(value) + "\n")
    }
}

/// Any JSON, to be printed inside other JSON. Numbers are kept as integers of 64 bits or as doubles.
enum JSONValue: Codable, Sendable, Equatable {
    case null
    case bool(Bool)
    case integer(Int64)
    case unsigned(UInt64)
    case double(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? container.decode(UInt64.self) {
            self = .unsigned(value)
        } else if let value = try? container.decode(Double.self) {
            self = .double(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .unsigned(let value): try container.encode(value)
        case .double(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let values): try container.encode(values)
        // A dictionary's keys are the caller's, and are not turned into snake_case.
        case .object(let values): try container.encode(values)
        }
    }
}
