import CSignalboxProto
import CProtobufC
import FoundationEssentials
package import JobModel
package import NIOCore
import Support

/// What a client asks for.
package protocol RequestMessage: Sendable {
    /// Adds a violation for each field that is wrong in itself (not UTF-8, holds NUL, a time out of range);
    /// at most 64. The value means nothing when one was added.
    static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> Self

    func encode() -> ByteBuffer
}

/// What the service answers.
package protocol ResponseMessage: Sendable {
    /// Throws `DecodingError.invalid` for the first field that is wrong in itself.
    static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> Self

    func encode() -> ByteBuffer
}

typealias Unpack<Message> = (
    UnsafeMutablePointer<ProtobufCAllocator>?, Int, UnsafePointer<UInt8>?
) -> UnsafeMutablePointer<Message>?

extension RequestMessage {
    static func decode<Message>(
        _ bytes: ByteBuffer, _ unpack: Unpack<Message>, into violations: inout [FieldViolation],
        _ read: (Message, inout FieldReader) -> Self
    ) throws(DecodingError) -> Self {
        var reader = FieldReader()
        let value = try unsafe MessageArena.unpack(bytes, unpack) { read($0, &reader) }
        violations += reader.violations
        return value
    }
}

extension ResponseMessage {
    static func decode<Message>(
        _ bytes: ByteBuffer, _ unpack: Unpack<Message>, _ read: (Message, inout FieldReader) -> Self
    ) throws(DecodingError) -> Self {
        var reader = FieldReader()
        let value = try unsafe MessageArena.unpack(bytes, unpack) { read($0, &reader) }
        if let violation = reader.violations.first { throw .invalid(violation) }
        return value
    }
}

/// Reads values out of C structs, and collects what is wrong with them. The C structs' memory must live.
struct FieldReader {
    /// More says nothing more, and a message can hold millions.
    static let violationsMax = 64

    private(set) var violations: [FieldViolation] = []

    mutating func add(_ field: @autoclosure () -> String, _ description: String) {
        guard violations.count < Self.violationsMax else { return }
        violations.append(FieldViolation(field: field(), description: description))
    }

    /// The length is checked before anything else is done with the text: one that is too long is cut, and only used to find
    /// what else is wrong. Empty when it is not UTF-8, or holds NUL.
    mutating func text(
        _ data: ProtobufCBinaryData, _ field: @autoclosure () -> String, bytesMax: Int
    ) -> ExactText {
        if unsafe data.len > bytesMax {
            add(field(), "is longer than \(bytesMax) bytes")
            return unsafe cutText(data, bytesMax: bytesMax)
        }
        guard let start = unsafe data.data, unsafe data.len > 0 else { return "" }
        let bytes = unsafe UnsafeBufferPointer(start: start, count: data.len)
        guard let text = unsafe String(validating: bytes, as: UTF8.self) else {
            add(field(), "is not valid UTF-8")
            return ""
        }
        guard unsafe !bytes.contains(0) else {
            add(field(), "contains NUL")
            return ""
        }
        return ExactText(text)
    }

    /// The beginning of a text.
    func cutText(_ data: ProtobufCBinaryData, bytesMax: Int) -> ExactText {
        guard let start = unsafe data.data, unsafe data.len > 0 else { return "" }
        return unsafe ExactText(
            decoding: UnsafeBufferPointer(start: start, count: min(data.len, bytesMax)))
    }

    /// A job's id as a caller has written it. `JobID` says whether it is one, which a longer text is not.
    mutating func idText(_ data: ProtobufCBinaryData, _ field: @autoclosure () -> String) -> ExactText {
        if unsafe data.len > JobLimits.jobIDBytes {
            return unsafe cutText(data, bytesMax: JobLimits.jobIDBytes + 1)
        }
        return unsafe text(data, field(), bytesMax: JobLimits.jobIDBytes)
    }

    mutating func userID(_ data: ProtobufCBinaryData) -> ExactText {
        unsafe text(data, "user_id", bytesMax: JobLimits.userIDBytesMax)
    }

    mutating func queue(_ data: ProtobufCBinaryData) -> ExactText {
        unsafe text(data, "queue", bytesMax: JobLimits.queueBytesMax)
    }

    /// A text in an answer, of a server that may be newer than this and have other limits.
    mutating func answerText(
        _ data: ProtobufCBinaryData, _ field: @autoclosure () -> String
    ) -> ExactText {
        unsafe text(data, field(), bytesMax: Self.answerTextBytesMax)
    }

    private static let answerTextBytesMax = 64 << 10

    func bytes(_ data: ProtobufCBinaryData) -> [UInt8] {
        guard let start = unsafe data.data else { return [] }
        return unsafe [UInt8](UnsafeBufferPointer(start: start, count: data.len))
    }

    /// At most `limit` of the values of a repeated message.
    func list<Message, Value>(
        _ count: Int, _ items: UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?, limit: Int = .max,
        _ read: (Int, Message) -> Value
    ) -> [Value] {
        guard let items = unsafe items else { return [] }
        return (0..<min(count, limit)).compactMap { index in
            // protobuf-c leaves no gap.
            guard let item = unsafe items[index] else { return nil }
            return unsafe read(index, item.pointee)
        }
    }

    /// The values of a repeated field that is no message. They are gone when the message is.
    func values<Value>(_ count: Int, _ values: UnsafeMutablePointer<Value>?) -> [Value] {
        unsafe Array(UnsafeBufferPointer(start: values, count: values == nil ? 0 : count))
    }

    /// Years 1 to 9999 (google/protobuf/timestamp.proto), cut to microseconds.
    mutating func timestamp(
        _ value: UnsafeMutablePointer<Google__Protobuf__Timestamp>?, _ field: @autoclosure () -> String
    ) -> Timestamp? {
        guard let value = unsafe value?.pointee else { return nil }
        let seconds = unsafe value.seconds
        let nanos = unsafe value.nanos
        guard (-62_135_596_800...253_402_300_799).contains(seconds), (0...999_999_999).contains(nanos) else {
            add(field(), "is not a time of the years 1 to 9999")
            return nil
        }
        return Timestamp(microseconds: seconds * 1_000_000 + Int64(nanos) / 1000)
    }

    /// A time that every message of this kind has.
    mutating func requiredTimestamp(
        _ value: UnsafeMutablePointer<Google__Protobuf__Timestamp>?, _ field: @autoclosure () -> String
    ) -> Timestamp {
        if let timestamp = unsafe timestamp(value, field()) { return timestamp }
        if unsafe value == nil { add(field(), "is required") }
        return Timestamp(microseconds: 0)
    }

    /// ±10,000 years, seconds and nanos of one sign (google/protobuf/duration.proto).
    mutating func duration(
        _ value: UnsafeMutablePointer<Google__Protobuf__Duration>?, _ field: @autoclosure () -> String
    ) -> Duration? {
        guard let value = unsafe value?.pointee else { return nil }
        let seconds = unsafe value.seconds
        let nanos = unsafe value.nanos
        guard (-315_576_000_000...315_576_000_000).contains(seconds),
            (-999_999_999...999_999_999).contains(nanos), seconds <= 0 || nanos >= 0,
            seconds >= 0 || nanos <= 0
        else {
            add(field(), "is not a duration within 10,000 years")
            return nil
        }
        return Duration(
            secondsComponent: seconds, attosecondsComponent: Int64(nanos) * 1_000_000_000)
    }

    mutating func jobID(_ data: ProtobufCBinaryData, _ field: @autoclosure () -> String) -> JobID {
        if let id = unsafe JobID(idText(data, field()).text) { return id }
        add(field(), "is not a UUID of 36 characters")
        return Self.noJob
    }

    private static let noJob = JobID(UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)))
}

// MARK: - The other way

extension MessageArena {
    func timestamp(_ value: Timestamp) -> UnsafeMutablePointer<Google__Protobuf__Timestamp> {
        unsafe make(google__protobuf__timestamp__init) { message in
            let (seconds, rest) = value.microseconds.quotientAndRemainder(dividingBy: 1_000_000)
            // Nanos count forward, also before 1970.
            unsafe message.seconds = rest < 0 ? seconds - 1 : seconds
            unsafe message.nanos = Int32(rest < 0 ? rest + 1_000_000 : rest) * 1000
        }
    }

    func timestamp(_ value: Timestamp?) -> UnsafeMutablePointer<Google__Protobuf__Timestamp>? {
        guard let value else { return nil }
        return unsafe timestamp(value)
    }

    func duration(_ value: Duration) -> UnsafeMutablePointer<Google__Protobuf__Duration> {
        unsafe make(google__protobuf__duration__init) { message in
            let (seconds, attoseconds) = value.components
            unsafe message.seconds = seconds
            unsafe message.nanos = Int32(attoseconds / 1_000_000_000)
        }
    }

    func duration(_ value: Duration?) -> UnsafeMutablePointer<Google__Protobuf__Duration>? {
        guard let value else { return nil }
        return unsafe duration(value)
    }
}
