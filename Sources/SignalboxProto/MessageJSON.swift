// exact in this file: what is compared are names of messages and fields, which are ASCII.

import CProtobufC
import CSignalboxProto
import FoundationEssentials
import JobModel
import NIOCore
import Support

import Glibc

/// Writes a message as protobuf's JSON mapping has it (protobuf.dev/programming-guides/json), with the names that the fields
/// have in the protos. Fields that this version does not know are left out.
///
/// It reads protobuf-c's structs by their descriptors, so that a new field needs nothing here. These descriptors come from
/// copies of the protos in which texts are bytes and maps are lists (scripts/generate). `bytesFields` names the fields that
/// are bytes in the protos too. google.protobuf.Any has a form of its own in JSON, which is not written here; no message of
/// the API contains one.
@safe
struct MessageJSON {
    private typealias Descriptor = UnsafePointer<ProtobufCMessageDescriptor>

    private var json: [UInt8] = []
    private var violation: FieldViolation?

    /// The JSON of a message, or of the messages in one of its fields, each on one line.
    ///
    /// - Parameter field: a field of message type. Nil: the message itself.
    static func lines<Message>(
        _ bytes: ByteBuffer, _ unpack: Unpack<Message>, in field: String?
    ) throws(DecodingError) -> [String] {
        let result: Result<[String], DecodingError> = try unsafe MessageArena.withUnpacked(bytes, unpack) {
            message in
            // The C struct of every message starts with a ProtobufCMessage.
            let base = UnsafeRawPointer(message)
            let messages = unsafe field.map { unsafe parts(of: base, in: $0) } ?? [base]
            var lines: [String] = []
            for index in unsafe messages.indices {
                var writer = MessageJSON()
                unsafe writer.value(of: messages[index])
                if let violation = writer.violation { return .failure(.invalid(violation)) }
                lines.append(String(decoding: writer.json, as: UTF8.self))
            }
            return .success(lines)
        }
        return try result.get()
    }

    private static func descriptor(of message: UnsafeRawPointer) -> Descriptor {
        unsafe message.load(as: ProtobufCMessage.self).descriptor
    }

    /// The messages in a field.
    private static func parts(of message: UnsafeRawPointer, in name: String) -> [UnsafeRawPointer] {
        guard
            let field = unsafe protobuf_c_message_descriptor_get_field_by_name(descriptor(of: message), name),
            unsafe field.pointee.type == PROTOBUF_C_TYPE_MESSAGE
        else { return [] }
        let values = unsafe Values(of: message, field.pointee)
        return unsafe (0..<values.count).compactMap {
            unsafe values.address(at: $0).load(as: UnsafeRawPointer?.self)
        }
    }

    // MARK: Messages

    private mutating func value(of message: UnsafeRawPointer) {
        let descriptor = unsafe Self.descriptor(of: message)
        switch unsafe String(cString: descriptor.pointee.name) {
        case "google.protobuf.Timestamp":
            let value = unsafe message.load(as: Google__Protobuf__Timestamp.self)
            unsafe timestamp(seconds: value.seconds, nanos: value.nanos)
        case "google.protobuf.Duration":
            let value = unsafe message.load(as: Google__Protobuf__Duration.self)
            unsafe duration(seconds: value.seconds, nanos: value.nanos)
        case "google.protobuf.FieldMask":
            unsafe fieldMask(message.load(as: Google__Protobuf__FieldMask.self))
        case let name:
            unsafe object(message, descriptor, name)
        }
    }

    private mutating func object(_ message: UnsafeRawPointer, _ descriptor: Descriptor, _ name: String) {
        write("{")
        var isFirst = true
        for index in unsafe 0..<Int(descriptor.pointee.n_fields) {
            let field = unsafe descriptor.pointee.fields[index]
            let values = unsafe Values(of: message, field)
            guard unsafe values.count > 0 else { continue }
            if !isFirst { write(",") }
            isFirst = false
            let fieldName = unsafe String(cString: field.name)
            string(fieldName)
            write(":")
            if unsafe Self.isMap(field, named: fieldName, in: name) {
                unsafe map(values)
            } else {
                unsafe list(values, field, isBytes: bytesFields.contains("\(name).\(fieldName)"))
            }
        }
        write("}")
    }

    private mutating func list(_ values: Values, _ field: ProtobufCFieldDescriptor, isBytes: Bool) {
        let isList = unsafe field.label == PROTOBUF_C_LABEL_REPEATED
        if isList { write("[") }
        for index in unsafe 0..<values.count {
            if index > 0 { write(",") }
            unsafe value(at: values.address(at: index), field, isBytes: isBytes)
        }
        if isList { write("]") }
    }

    /// A map is a list of messages with the name that protobuf gives to the entries of a map.
    private static func isMap(
        _ field: ProtobufCFieldDescriptor, named name: String, in message: String
    ) -> Bool {
        guard unsafe field.label == PROTOBUF_C_LABEL_REPEATED, unsafe field.type == PROTOBUF_C_TYPE_MESSAGE,
            let entry = unsafe field.descriptor?.load(as: ProtobufCMessageDescriptor.self)
        else { return false }
        let words = name.split(separator: "_").map { $0.prefix(1).uppercased() + $0.dropFirst() }
        return unsafe ExactText(String(cString: entry.name)) == ExactText("\(message).\(words.joined())Entry")
    }

    /// The entries of a map from texts to texts. Of entries with the same key, the last one counts.
    private mutating func map(_ entries: Values) {
        var texts: [ExactText: ExactText] = [:]
        for index in unsafe 0..<entries.count {
            // protobuf-c sets every entry. All entries have the same two fields.
            guard let entry = unsafe entries.address(at: index).load(as: UnsafeRawPointer?.self) else {
                continue
            }
            let fields = unsafe Self.descriptor(of: entry).pointee.fields
            guard let key = unsafe fields?[0], let value = unsafe fields?[1] else { continue }
            let data = unsafe [key, value].map {
                unsafe (entry + Int($0.offset)).load(as: ProtobufCBinaryData.self)
            }
            unsafe texts[ExactText(Self.text(data[0]))] = ExactText(Self.text(data[1]))
        }
        write("{")
        for (index, entry) in texts.sorted(by: { $0.key < $1.key }).enumerated() {
            if index > 0 { write(",") }
            string(entry.key.text)
            write(":")
            string(entry.value.text)
        }
        write("}")
    }

    // MARK: Values

    private mutating func value(
        at address: UnsafeRawPointer, _ field: ProtobufCFieldDescriptor, isBytes: Bool
    ) {
        switch unsafe field.type {
        case PROTOBUF_C_TYPE_INT32, PROTOBUF_C_TYPE_SINT32, PROTOBUF_C_TYPE_SFIXED32:
            unsafe write("\(address.load(as: Int32.self))")
        case PROTOBUF_C_TYPE_UINT32, PROTOBUF_C_TYPE_FIXED32:
            unsafe write("\(address.load(as: UInt32.self))")
        // Numbers of 64 bits are texts, because many readers of JSON have no exact numbers of that size.
        case PROTOBUF_C_TYPE_INT64, PROTOBUF_C_TYPE_SINT64, PROTOBUF_C_TYPE_SFIXED64:
            unsafe write("\"\(address.load(as: Int64.self))\"")
        case PROTOBUF_C_TYPE_UINT64, PROTOBUF_C_TYPE_FIXED64:
            unsafe write("\"\(address.load(as: UInt64.self))\"")
        case PROTOBUF_C_TYPE_FLOAT:
            unsafe number(address.load(as: Float.self))
        case PROTOBUF_C_TYPE_DOUBLE:
            unsafe number(address.load(as: Double.self))
        case PROTOBUF_C_TYPE_BOOL:
            unsafe write(address.load(as: protobuf_c_boolean.self) != 0 ? "true" : "false")
        case PROTOBUF_C_TYPE_ENUM:
            unsafe name(of: address.load(as: Int32.self), field)
        case PROTOBUF_C_TYPE_BYTES:
            let data = unsafe address.load(as: ProtobufCBinaryData.self)
            if isBytes {
                unsafe write("\"\(Data(FieldReader().bytes(data)).base64EncodedString())\"")
            } else {
                unsafe string(Self.text(data))
            }
        case PROTOBUF_C_TYPE_MESSAGE:
            guard let part = unsafe address.load(as: UnsafeRawPointer?.self) else { return write("null") }
            unsafe value(of: part)
        default:
            // The copies of the protos that protoc-c reads have no other type: scripts/generate makes bytes of each string.
            refuse(unsafe String(cString: field.name), .malformed, "has a type that is not supported")
        }
    }

    /// The name of an enum's value; the number of one that this version does not know.
    private mutating func name(of number: Int32, _ field: ProtobufCFieldDescriptor) {
        let descriptor = unsafe field.descriptor?.assumingMemoryBound(to: ProtobufCEnumDescriptor.self)
        if let value = unsafe protobuf_c_enum_descriptor_get_value(descriptor, number) {
            unsafe string(String(cString: value.pointee.name))
        } else {
            write("\(number)")
        }
    }

    private mutating func number<Value: BinaryFloatingPoint & CustomStringConvertible>(_ value: Value) {
        if value.isNaN {
            write("\"NaN\"")
        } else if value.isInfinite {
            write(value < 0 ? "\"-Infinity\"" : "\"Infinity\"")
        } else {
            // The shortest text that is read as the same number; Swift writes it as JSON has it.
            write(value.description)
        }
    }

    private static func text(_ data: ProtobufCBinaryData) -> String {
        unsafe String(
            decoding: UnsafeBufferPointer(start: data.data, count: data.data == nil ? 0 : data.len),
            as: UTF8.self)
    }

    private mutating func string(_ text: String) {
        json.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                json += [UInt8(ascii: "\\"), byte]
            case 0..<0x10:
                write("\\u000\(String(byte, radix: 16))")
            case 0x10..<0x20:
                write("\\u00\(String(byte, radix: 16))")
            default:
                json.append(byte)
            }
        }
        json.append(UInt8(ascii: "\""))
    }

    private mutating func write(_ text: String) {
        json.append(contentsOf: text.utf8)
    }

    private mutating func refuse(_ field: String, _ reason: FieldViolation.Reason, _ description: String) {
        violation = violation ?? FieldViolation(field: field, reason: reason, description: description)
    }

    // MARK: Well-known types

    /// RFC 3339 in UTC.
    private mutating func timestamp(seconds: Int64, nanos: Int32) {
        guard FieldReader.timestampSeconds.contains(seconds), FieldReader.nanos.contains(nanos) else {
            return refuse("timestamp", .outOfRange, "is not a time of the years 1 to 9999")
        }
        var time = time_t(seconds)
        var parts = unsafe tm()
        _ = unsafe gmtime_r(&time, &parts)
        let (year, month, day) = unsafe (parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday)
        let (hour, minute, second) = unsafe (parts.tm_hour, parts.tm_min, parts.tm_sec)
        write("\"\(Self.digits(year, 4))-\(Self.digits(month, 2))-\(Self.digits(day, 2))T")
        write("\(Self.digits(hour, 2)):\(Self.digits(minute, 2)):\(Self.digits(second, 2))")
        write("\(Self.fraction(nanos))Z\"")
    }

    private mutating func duration(seconds: Int64, nanos: Int32) {
        guard FieldReader.isDuration(seconds: seconds, nanos: nanos) else {
            return refuse("duration", .outOfRange, "is not a duration within 10,000 years")
        }
        let sign = seconds < 0 || nanos < 0 ? "-" : ""
        write("\"\(sign)\(seconds.magnitude)\(Self.fraction(abs(nanos)))s\"")
    }

    /// The paths with commas between them. Their names are in camel case.
    private mutating func fieldMask(_ value: Google__Protobuf__FieldMask) {
        let paths = unsafe UnsafeBufferPointer(
            start: value.paths, count: value.paths == nil ? 0 : value.n_paths
        )
        .map { unsafe Self.text($0) }
        let names = paths.map { path in
            let words = path.split(separator: "_", omittingEmptySubsequences: false)
            return words[0] + words.dropFirst().map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
        }
        string(names.joined(separator: ","))
    }

    /// 0, 3, 6 or 9 digits after a point.
    private static func fraction(_ nanos: Int32) -> String {
        if nanos == 0 { return "" }
        if nanos % 1_000_000 == 0 { return "." + digits(nanos / 1_000_000, 3) }
        if nanos % 1000 == 0 { return "." + digits(nanos / 1000, 6) }
        return "." + digits(nanos, 9)
    }

    private static func digits(_ number: Int32, _ count: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
}

/// The values of a field in a message. The memory of the message must outlive it.
@unsafe
private struct Values {
    /// 0 if the field is not set.
    let count: Int
    private let start: UnsafeRawPointer?
    private let stride: Int

    init(of message: UnsafeRawPointer, _ field: ProtobufCFieldDescriptor) {
        let address = unsafe message + Int(field.offset)
        let quantifier = unsafe message + Int(field.quantifier_offset)
        unsafe stride = Self.size(of: field.type)
        if unsafe field.label == PROTOBUF_C_LABEL_REPEATED {
            unsafe count = quantifier.load(as: Int.self)
            unsafe start = address.load(as: UnsafeRawPointer?.self)
        } else {
            unsafe count = Self.isSet(field, address, quantifier) ? 1 : 0
            unsafe start = address
        }
    }

    /// - Parameter index: less than `count`.
    func address(at index: Int) -> UnsafeRawPointer {
        // A field that has a value has an address.
        unsafe start! + index * stride
    }

    /// A member of a oneof is set if the oneof says so; any other field, if it is not zero.
    private static func isSet(
        _ field: ProtobufCFieldDescriptor, _ address: UnsafeRawPointer, _ quantifier: UnsafeRawPointer
    ) -> Bool {
        if unsafe field.flags & PROTOBUF_C_FIELD_FLAG_ONEOF.rawValue != 0 {
            return unsafe quantifier.load(as: UInt32.self) == field.id
        }
        // The length of bytes, which comes first, says whether there are any.
        let size = unsafe field.type == PROTOBUF_C_TYPE_BYTES ? MemoryLayout<Int>.size : size(of: field.type)
        return unsafe UnsafeRawBufferPointer(start: address, count: size).contains { $0 != 0 }
    }

    private static func size(of type: ProtobufCType) -> Int {
        switch type {
        case PROTOBUF_C_TYPE_INT64, PROTOBUF_C_TYPE_SINT64, PROTOBUF_C_TYPE_SFIXED64, PROTOBUF_C_TYPE_UINT64,
            PROTOBUF_C_TYPE_FIXED64, PROTOBUF_C_TYPE_DOUBLE:
            8
        case PROTOBUF_C_TYPE_BYTES: unsafe MemoryLayout<ProtobufCBinaryData>.stride
        case PROTOBUF_C_TYPE_MESSAGE, PROTOBUF_C_TYPE_STRING: unsafe MemoryLayout<UnsafeRawPointer>.stride
        default: 4
        }
    }
}

extension ResponseMessage {
    static func json<Message>(
        _ bytes: ByteBuffer, _ unpack: Unpack<Message>, in field: String?
    ) throws(DecodingError) -> [String] {
        try unsafe MessageJSON.lines(bytes, unpack, in: field)
    }
}
