public import Foundation
import JobModel
import Support

/// Bytes and their media type: what a job's handler receives, and what it returns.
public struct JobPayload: Sendable, Hashable {
    /// The media type of JSON.
    public static let jsonContentType = "application/json"

    /// At most 1 MiB.
    public var data: Data
    /// A media type of at most 128 bytes of UTF-8 without control characters.
    public var contentType: String

    /// A payload of any type.
    public init(_ data: some Sequence<UInt8>, contentType: String) {
        self.data = Data(data)
        self.contentType = contentType
    }

    /// No bytes at all, which handlers of JSON read as `null`.
    public init() {
        self.init([], contentType: Self.jsonContentType)
    }

    /// A value as JSON. Throws what its own encoding throws.
    public init(json value: some Encodable) throws {
        self.init(try JSONEncoder().encode(value), contentType: Self.jsonContentType)
    }

    /// Decodes the bytes as JSON. The content type is ignored.
    ///
    /// Throws a `DecodingError` where they are not JSON, and where they have a key of more than 1 KiB: looking up long keys
    /// from outside can take very long. Errors of the type's own decoding are passed on.
    public func decoded<Value: Decodable>(as type: Value.Type = Value.self) throws -> Value {
        if data.count > JSONText.keyBytesMax, JSONText.verdict(on: [UInt8](data)) == .keyTooLong {
            throw DecodingError.dataCorrupted(
                DecodingError.Context(
                    codingPath: [],
                    debugDescription: "a key of the JSON has more than \(JSONText.keyBytesMax) bytes"))
        }
        return try JSONDecoder().decode(type, from: data.isEmpty ? Data("null".utf8) : data)
    }
}
