import CSignalboxProto
import CProtobufC
import JobModel

/// Finds the fields of a request that the messages of this version do not have.
///
/// A client of a newer version sends such fields, and would get something else than it asked for if they were passed over.
///
/// The bytes are read once more for this, although protobuf-c keeps a list of unknown fields in each message. It drops the
/// list of a message that is given twice when it merges the two, and it reads a bool of any wire type.
enum UnknownFields {
    /// The most fields that an error names.
    static let namedMax = 20
    /// In a larger request only one field is named, because the request is read again for each name.
    static let namedBytesMax = 64 << 10

    /// Throws `DecodingError.unknownFields`, or `malformed` where a bool has another wire type. The bytes were unpacked as
    /// this message before, so they are well formed in every other respect.
    static func refuse(
        in bytes: Span<UInt8>, of message: UnsafePointer<ProtobufCMessageDescriptor>
    ) throws(DecodingError) {
        var starts: [Int] = []
        let namedMax = bytes.count <= namedBytesMax ? namedMax : 1
        try unsafe find(in: bytes, 0..<bytes.count, message, namedMax, &starts)
        guard !starts.isEmpty else { return }
        var violations: [FieldViolation] = []
        for start in starts {
            let path = unsafe path(to: start, in: bytes, 0..<bytes.count, message)
            // A message that is given twice has the same path twice.
            guard !violations.contains(where: { $0.field == path }) else { continue }
            violations.append(
                FieldViolation(field: path, reason: .unknownField, description: "is not known to this server")
            )
        }
        throw .unknownFields(violations)
    }

    /// Adds the positions of the first unknown fields. A field that a message has several times is added once.
    private static func find(
        in bytes: Span<UInt8>, _ range: Range<Int>, _ message: UnsafePointer<ProtobufCMessageDescriptor>,
        _ namedMax: Int, _ starts: inout [Int]
    ) throws(DecodingError) {
        var numbers: [UInt32] = []
        var position = range.lowerBound
        while starts.count < namedMax,
            let field = WireField(in: bytes, at: &position, before: range.upperBound)
        {
            guard let known = unsafe protobuf_c_message_descriptor_get_field(message, field.number) else {
                guard !numbers.contains(field.number) else { continue }
                numbers.append(field.number)
                starts.append(field.start)
                continue
            }
            switch unsafe known.pointee.type {
            case PROTOBUF_C_TYPE_MESSAGE:
                guard let part = unsafe self.message(of: known) else { continue }
                try unsafe find(in: bytes, field.value, part, namedMax, &starts)
            case PROTOBUF_C_TYPE_BOOL:
                guard unsafe field.type == .varint || known.pointee.label == PROTOBUF_C_LABEL_REPEATED else {
                    throw .malformed
                }
            default:
                break
            }
        }
    }

    /// The path of the unknown field that starts at a position, such as `jobs[3].retry_policy.<field 30>`. An entry of a
    /// map has its position on the wire: `job.labels[0].<field 3>`.
    private static func path(
        to start: Int, in bytes: Span<UInt8>, _ range: Range<Int>,
        _ message: UnsafePointer<ProtobufCMessageDescriptor>
    ) -> String {
        var position = range.lowerBound
        while let field = WireField(in: bytes, at: &position, before: range.upperBound) {
            if field.start == start { return "<field \(field.number)>" }
            guard field.value.contains(start),
                let known = unsafe protobuf_c_message_descriptor_get_field(message, field.number),
                let part = unsafe self.message(of: known)
            else { continue }
            var name = unsafe String(cString: known.pointee.name)
            if unsafe known.pointee.label == PROTOBUF_C_LABEL_REPEATED {
                name += "[\(count(of: field.number, in: bytes, range.lowerBound..<field.start))]"
            }
            return unsafe "\(name)." + path(to: start, in: bytes, field.value, part)
        }
        return ""
    }

    private static func count(of number: UInt32, in bytes: Span<UInt8>, _ range: Range<Int>) -> Int {
        var count = 0
        var position = range.lowerBound
        while let field = WireField(in: bytes, at: &position, before: range.upperBound) {
            if field.number == number { count += 1 }
        }
        return count
    }

    /// The type of a field that is a message.
    private static func message(
        of field: UnsafePointer<ProtobufCFieldDescriptor>
    ) -> UnsafePointer<ProtobufCMessageDescriptor>? {
        unsafe field.pointee.descriptor?.assumingMemoryBound(to: ProtobufCMessageDescriptor.self)
    }
}

/// A field of a message on the wire (protobuf.dev/programming-guides/encoding).
private struct WireField {
    enum WireType {
        case varint
        case other
    }

    var number: UInt32
    var type: WireType
    /// The position of its first byte.
    var start: Int
    /// The positions of its value, without the length before it.
    var value: Range<Int>

    /// Reads the field at a position, and moves the position behind it. Nil at the end, and for bytes that are no field.
    init?(in bytes: Span<UInt8>, at position: inout Int, before end: Int) {
        start = position
        guard let tag = Self.varint(in: bytes, at: &position, before: end) else { return nil }
        number = UInt32(truncatingIfNeeded: tag >> 3)
        type = .other
        var valueStart = position
        switch tag & 7 {
        case 0:
            type = .varint
            guard Self.varint(in: bytes, at: &position, before: end) != nil else { return nil }
        case 1:
            position += 8
        case 2:
            guard let length = Self.varint(in: bytes, at: &position, before: end),
                length <= UInt64(end - position)
            else { return nil }
            valueStart = position
            position += Int(length)
        case 5:
            position += 4
        default:
            return nil
        }
        guard position <= end else { return nil }
        value = valueStart..<position
    }

    private static func varint(in bytes: Span<UInt8>, at position: inout Int, before end: Int) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while position < end, shift < 64 {
            let byte = bytes[position]
            position += 1
            value |= UInt64(byte & 0x7F) &<< shift
            if byte < 0x80 { return value }
            shift += 7
        }
        return nil
    }
}
