import CSignalboxProto
import CProtobufC
import FoundationEssentials
package import JobModel
package import NIOCore
import Support

/// A message that a client sends.
package protocol RequestMessage: Sendable {
    /// Adds a violation for each field that is wrong in itself: text that is not UTF-8, contains NUL or is too long, or a
    /// time out of range. It adds at most 64. Where it has added one, the value must not be used. Throws
    /// `DecodingError.unknownFields` for fields that this version does not know.
    static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> Self

    /// False for the requests of services that others define: they keep protobuf's rule, which passes unknown fields over.
    static var refusesUnknownFields: Bool { get }

    func encode() -> ByteBuffer
}

/// A message that the server sends.
package protocol ResponseMessage: Sendable {
    /// Throws `DecodingError.invalid` for the first field that is wrong in itself.
    static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> Self

    /// The message as protobuf's JSON mapping has it, with the names that the fields have in the protos, on one line.
    /// Unknown values of enums are numbers. With a field of message type: its messages instead, each on one line. Throws
    /// `DecodingError.invalid` for a time that the mapping does not have.
    static func json(_ bytes: ByteBuffer, in field: String?) throws(DecodingError) -> [String]

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
        var descriptor: UnsafePointer<ProtobufCMessageDescriptor>?
        let value = try unsafe MessageArena.unpack(bytes, unpack) { message in
            // The C struct of every message starts with a ProtobufCMessage. Its descriptor is a constant.
            unsafe descriptor = withUnsafeBytes(of: message) {
                unsafe $0.load(as: ProtobufCMessage.self).descriptor
            }
            return read(message, &reader)
        }
        if refusesUnknownFields, let descriptor = unsafe descriptor {
            try unsafe UnknownFields.refuse(in: bytes.readableBytesUInt8Span, of: descriptor)
        }
        violations += reader.violations
        return value
    }

    package static var refusesUnknownFields: Bool { true }
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

/// Reads values out of protobuf-c's structs, and collects violations. The memory of the structs must outlive each call.
struct FieldReader {
    /// A message can have millions of wrong fields; the first ones are enough.
    static let violationsMax = 64

    private(set) var violations: [FieldViolation] = []

    mutating func add(
        _ field: @autoclosure () -> String, _ reason: FieldViolation.Reason, _ description: String
    ) {
        guard violations.count < Self.violationsMax else { return }
        violations.append(FieldViolation(field: field(), reason: reason, description: description))
    }

    /// The length is checked first. A text that is too long is cut, and is used only to find other violations. The text is
    /// empty when it is not UTF-8 or contains NUL.
    mutating func text(
        _ data: ProtobufCBinaryData, _ field: @autoclosure () -> String, bytesMax: Int
    ) -> ExactText {
        if unsafe data.len > bytesMax {
            add(field(), .tooLong, "is longer than \(bytesMax) bytes")
            return unsafe cutText(data, bytesMax: bytesMax)
        }
        guard let start = unsafe data.data, unsafe data.len > 0 else { return "" }
        let bytes = unsafe UnsafeBufferPointer(start: start, count: data.len)
        guard let text = unsafe String(validating: bytes, as: UTF8.self) else {
            add(field(), .malformed, "is not valid UTF-8")
            return ""
        }
        guard unsafe !bytes.contains(0) else {
            add(field(), .malformed, "contains NUL")
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

    /// A job's id as a caller has written it; `JobID` checks it. A text that is too long for an id is a violation, and is
    /// read as empty.
    mutating func idText(_ data: ProtobufCBinaryData, _ field: @autoclosure () -> String) -> ExactText {
        if unsafe data.len > JobLimits.jobIDBytes {
            add(field(), .malformed, JobID.refusal(of: ""))
            return ""
        }
        return unsafe text(data, field(), bytesMax: JobLimits.jobIDBytes)
    }

    /// A text in a response. The server may be newer than this program and have other limits, so its value may be unknown:
    /// that is a violation.
    mutating func answer<Value: TextValue>(
        _ data: ProtobufCBinaryData, _ field: @autoclosure () -> String
    ) -> Value {
        let text = unsafe text(data, field(), bytesMax: Self.answerTextBytesMax)
        if let value = Value(onWire: text) { return value }
        add(field(), .unknownValue, Value.refusal(of: text))
        return Value.placeholder
    }

    /// A text in a response, where the empty text means that there is none.
    mutating func nonEmptyAnswer(
        _ data: ProtobufCBinaryData, _ field: @autoclosure () -> String
    ) -> ExactText? {
        let text: ExactText = unsafe answer(data, field())
        return text.nonEmpty
    }

    /// The texts of a repeated field in a response.
    mutating func answers<Value: TextValue>(
        _ count: Int, _ texts: UnsafeMutablePointer<ProtobufCBinaryData>?,
        _ field: @autoclosure () -> String
    ) -> [Value] {
        unsafe values(count, texts).map { unsafe answer($0, field()) }
    }

    private static let answerTextBytesMax = 64 << 10

    /// The longest name of a service, file, symbol or host that a request may have, in bytes.
    static let nameBytesMax = 1024

    /// One entry of a job's labels in a request.
    mutating func label(
        _ key: ProtobufCBinaryData, _ value: ProtobufCBinaryData, _ field: @autoclosure () -> String
    ) -> (key: ExactText, value: ExactText) {
        unsafe (
            key: text(key, field(), bytesMax: JobLimits.labelKeyBytesMax),
            value: text(value, field(), bytesMax: JobLimits.labelValueBytesMax)
        )
    }

    /// The value of a closed enum in a response. One that is unknown is a violation.
    mutating func known<Value: WireEnum>(
        _ value: Value.Wire, _ field: @autoclosure () -> String
    ) -> Value {
        if let value = Value(onWire: value) { return value }
        add(field(), .unknownValue, "is unknown: \(value.rawValue)")
        return Value.placeholder
    }

    /// The value of an open enum in a response. Nil for one that this version does not know, and for the unspecified one.
    func open<Value: WireEnum>(_ value: Value.Wire) -> Value? {
        Value(onWire: value)
    }

    /// An enum's value in a request; nil if it is not set. One that is unknown is a violation.
    mutating func optionalValue<Value: WireEnum>(
        _ value: Value.Wire, _ field: @autoclosure () -> String
    ) -> Value? {
        guard value.rawValue != 0 else { return nil }
        if let value = Value(onWire: value) { return value }
        add(field(), .unknownValue, "is unknown: \(value.rawValue)")
        return nil
    }

    /// The texts of a repeated field in a request, at most `limit` of them.
    mutating func texts(
        _ count: Int, _ texts: UnsafeMutablePointer<ProtobufCBinaryData>?,
        _ field: @autoclosure () -> String, bytesMax: Int, limit: Int
    ) -> [ExactText] {
        let texts = unsafe values(min(count, limit), texts)
        return texts.indices.map { unsafe text(texts[$0], "\(field())[\($0)]", bytesMax: bytesMax) }
    }

    /// The paths of a field mask in a request; nil if it is not set.
    mutating func fieldMask(
        _ message: UnsafeMutablePointer<Google__Protobuf__FieldMask>?, _ field: @autoclosure () -> String
    ) -> FieldMask? {
        guard let message = unsafe message?.pointee else { return nil }
        if unsafe message.n_paths > FieldMask.pathsMax {
            add("\(field()).paths", .tooLong, "are more than \(FieldMask.pathsMax)")
        }
        return unsafe FieldMask(
            paths: texts(
                message.n_paths, message.paths, "\(field()).paths", bytesMax: Self.nameBytesMax,
                limit: FieldMask.pathsMax))
    }

    /// The values of a repeated enum in a request. `one` is what the violation calls an unknown value.
    mutating func set<Value: WireEnum>(
        _ count: Int, _ values: UnsafeMutablePointer<Value.Wire>?, _ field: @autoclosure () -> String,
        one: StaticString
    ) -> Set<Value> {
        let values = unsafe self.values(min(count, Self.setValuesMax + 1), values)
        if values.count > Self.setValuesMax { add(field(), .tooLong, "are more than \(Self.setValuesMax)") }
        var set: Set<Value> = []
        for value in values.prefix(Self.setValuesMax) {
            if let value = Value(onWire: value) {
                set.insert(value)
            } else {
                add(field(), .unknownValue, "has an unknown \(one): \(value.rawValue)")
            }
        }
        return set
    }

    /// No enum has as many values.
    private static let setValuesMax = 64

    /// Whether a list in a request has an allowed number of entries. If it has not, that is a violation.
    mutating func count(
        _ count: Int, _ field: @autoclosure () -> String, isWithin range: ClosedRange<Int>
    ) -> Bool {
        if range.contains(count) { return true }
        add(
            field(), count < range.lowerBound ? .required : .tooLong,
            range.lowerBound == 0
                ? "are more than \(range.upperBound)" : "are not \(range.lowerBound) to \(range.upperBound)")
        return false
    }

    /// A message in a message; nil where it is not set.
    mutating func optional<Message, Value>(
        _ message: UnsafeMutablePointer<Message>?, _ read: (Message, inout FieldReader) -> Value
    ) -> Value? {
        guard let message = unsafe message else { return nil }
        return unsafe read(message.pointee, &self)
    }

    /// A message that a request must have; nil, and a violation, where it is not set.
    mutating func required<Message, Value>(
        _ message: UnsafeMutablePointer<Message>?, _ field: @autoclosure () -> String,
        _ read: (Message, inout FieldReader) -> Value
    ) -> Value? {
        if unsafe message == nil { add(field(), .required, "is required") }
        return unsafe optional(message, read)
    }

    /// A message that a response must have. Where it is not set, that is a violation, and the value is made from `empty`.
    mutating func required<Message, Value>(
        _ message: UnsafeMutablePointer<Message>?, _ empty: @autoclosure () -> Message,
        _ field: @autoclosure () -> String, _ read: (Message, inout FieldReader) -> Value
    ) -> Value {
        if let message = unsafe message { return unsafe read(message.pointee, &self) }
        add(field(), .required, "is required")
        return read(empty(), &self)
    }

    func bytes(_ data: ProtobufCBinaryData) -> [UInt8] {
        guard let start = unsafe data.data else { return [] }
        return unsafe [UInt8](UnsafeBufferPointer(start: start, count: data.len))
    }

    func byteStrings(_ count: Int, _ values: UnsafeMutablePointer<ProtobufCBinaryData>?) -> [[UInt8]] {
        unsafe self.values(count, values).map { unsafe bytes($0) }
    }

    /// At most `limit` of the values of a repeated message, in order. `read` gets the index of each.
    func list<Message, Value>(
        _ count: Int, _ items: UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?, limit: Int = .max,
        _ read: (Int, Message) -> Value
    ) -> [Value] {
        guard let items = unsafe items else { return [] }
        return (0..<min(count, limit)).compactMap { index in
            // protobuf-c sets every entry.
            guard let item = unsafe items[index] else { return nil }
            return unsafe read(index, item.pointee)
        }
    }

    /// The values of a repeated field of another type. Texts among them are valid as long as the message.
    func values<Value>(_ count: Int, _ values: UnsafeMutablePointer<Value>?) -> [Value] {
        unsafe Array(UnsafeBufferPointer(start: values, count: values == nil ? 0 : count))
    }

    /// The seconds of a time: the years 1 to 9999 (google/protobuf/timestamp.proto).
    static let timestampSeconds: ClosedRange<Int64> = -62_135_596_800...253_402_300_799
    static let nanos: ClosedRange<Int32> = 0...999_999_999

    /// At most ±10,000 years, with seconds and nanos of one sign (google/protobuf/duration.proto).
    static func isDuration(seconds: Int64, nanos: Int32) -> Bool {
        (-315_576_000_000...315_576_000_000).contains(seconds) && (-999_999_999...999_999_999).contains(nanos)
            && (seconds <= 0 || nanos >= 0) && (seconds >= 0 || nanos <= 0)
    }

    /// A time, cut to microseconds.
    mutating func timestamp(
        _ value: UnsafeMutablePointer<Google__Protobuf__Timestamp>?, _ field: @autoclosure () -> String
    ) -> Timestamp? {
        guard let value = unsafe value?.pointee else { return nil }
        let seconds = unsafe value.seconds
        let nanos = unsafe value.nanos
        guard Self.timestampSeconds.contains(seconds), Self.nanos.contains(nanos) else {
            add(field(), .outOfRange, "is not a time of the years 1 to 9999")
            return nil
        }
        return Timestamp(microseconds: seconds * 1_000_000 + Int64(nanos) / 1000)
    }

    /// A time that is never left out. Where it is, that is a violation.
    mutating func requiredTimestamp(
        _ value: UnsafeMutablePointer<Google__Protobuf__Timestamp>?, _ field: @autoclosure () -> String
    ) -> Timestamp {
        if let timestamp = unsafe timestamp(value, field()) { return timestamp }
        if unsafe value == nil { add(field(), .required, "is required") }
        return Timestamp(microseconds: 0)
    }

    mutating func duration(
        _ value: UnsafeMutablePointer<Google__Protobuf__Duration>?, _ field: @autoclosure () -> String
    ) -> Duration? {
        guard let value = unsafe value?.pointee else { return nil }
        let seconds = unsafe value.seconds
        let nanos = unsafe value.nanos
        guard Self.isDuration(seconds: seconds, nanos: nanos) else {
            add(field(), .outOfRange, "is not a duration within 10,000 years")
            return nil
        }
        return Duration(
            secondsComponent: seconds, attosecondsComponent: Int64(nanos) * 1_000_000_000)
    }
}

// MARK: - Writing

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

    /// A message in a message, filled from a value; nil where there is none.
    func optional<Value, Message>(
        _ value: Value?, _ initialise: (UnsafeMutablePointer<Message>?) -> Void,
        _ fill: (inout Message, Value) -> Void
    ) -> UnsafeMutablePointer<Message>? {
        guard let value else { return nil }
        return unsafe make(initialise) { fill(&$0, value) }
    }

    /// The values of a set in the order of their numbers, so that equal sets are encoded to equal bytes.
    func set<Value: WireEnum>(_ values: Set<Value>) -> (Int, UnsafeMutablePointer<Value.Wire>?) {
        unsafe array(values.map(\.onWire).sorted { $0.rawValue < $1.rawValue }) { $0 }
    }

    func byteStrings(_ values: [[UInt8]]) -> (Int, UnsafeMutablePointer<ProtobufCBinaryData>?) {
        unsafe array(values) { unsafe bytes($0) }
    }

    func texts(_ values: [some TextValue]) -> (Int, UnsafeMutablePointer<ProtobufCBinaryData>?) {
        unsafe array(values) { unsafe text($0.onWire) }
    }

    func fieldMask(_ mask: FieldMask?) -> UnsafeMutablePointer<Google__Protobuf__FieldMask>? {
        guard let mask else { return nil }
        return unsafe make(google__protobuf__field_mask__init) {
            unsafe ($0.n_paths, $0.paths) = texts(mask.paths)
        }
    }

    func text(_ value: some TextValue) -> ProtobufCBinaryData {
        unsafe text(value.onWire)
    }
}
