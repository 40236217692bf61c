package import FoundationEssentials

/// Writes the elements of one array parameter in place (`array_send` in PostgreSQL's `arrayfuncs.c`): the number
/// of dimensions, whether there are NULLs, the element type, the length and the lower bound; then each
/// element with its length in front, -1 for NULL.
package struct ArrayWriter {
    private static let headerLength = 20

    private let type: ValueType
    private let start: Int
    private var bytes: [UInt8]
    private var count = 0
    private var hasNulls = false

    init(_ type: ValueType, into bytes: consuming [UInt8], countHint: Int) {
        self.type = type
        self.start = bytes.count
        self.bytes = bytes
        let elementLength =
            switch type {
            case .bool: 5
            case .int16: 6
            case .int32: 8
            case .int64, .double, .timestamp: 12
            case .uuid: 20
            case .text, .bytes: 24  // a guess
            }
        let needed = start + Self.headerLength + countHint * elementLength
        // An exact reservation for every array would make many arrays quadratic.
        if needed > self.bytes.capacity { self.bytes.reserveCapacity(max(needed, self.bytes.capacity * 2)) }
        self.bytes.append(contentsOf: repeatElement(0, count: Self.headerLength))
    }

    package mutating func appendNull() {
        hasNulls = true
        count += 1
        bytes.appendBigEndian(UInt32.max)
    }

    package mutating func append(_ value: Int16) {
        assert(type == .int16)
        count += 1
        bytes.appendBigEndian(UInt32(2))
        bytes.appendBigEndian(UInt16(bitPattern: value))
    }

    package mutating func append(_ value: Int32) {
        assert(type == .int32)
        count += 1
        bytes.appendBigEndian(UInt64(4) << 32 | UInt64(UInt32(bitPattern: value)))
    }

    package mutating func append(_ value: Int64) {
        assert(type == .int64)
        appendWord(UInt64(bitPattern: value))
    }

    package mutating func append(_ value: Double) {
        assert(type == .double)
        appendWord(value.bitPattern)
    }

    package mutating func append(timestamp value: Int64) {
        assert(type == .timestamp)
        appendWord(UInt64(bitPattern: WireTime.encode(value)))
    }

    package mutating func append(_ value: Bool) {
        assert(type == .bool)
        count += 1
        bytes.appendBigEndian(UInt32(1))
        bytes.append(value ? 1 : 0)
    }

    package mutating func append(_ value: UUID) {
        assert(type == .uuid)
        count += 1
        bytes.appendBigEndian(UInt32(16))
        bytes.append(uuid: value)
    }

    package mutating func append(_ value: String) {
        assert(type == .text)
        count += 1
        let utf8 = value.utf8
        bytes.appendBigEndian(UInt32(truncatingIfNeeded: utf8.count))
        bytes.append(contentsOf: utf8)
    }

    package mutating func append(bytes value: [UInt8]) {
        assert(type == .bytes)
        count += 1
        bytes.appendBigEndian(UInt32(truncatingIfNeeded: value.count))
        bytes.append(contentsOf: value)
    }

    @inline(__always)
    private mutating func appendWord(_ word: UInt64) {
        count += 1
        bytes.appendBigEndian(UInt32(8))
        bytes.appendBigEndian(word)
    }

    /// Fills in the header and hands the buffer back. An empty array has no dimension.
    consuming func finish() -> [UInt8] {
        let header: [UInt32] =
            count == 0
            ? [0, 0, type.rawValue]
            : [1, hasNulls ? 1 : 0, type.rawValue, UInt32(truncatingIfNeeded: count), 1]
        let headerEnd = start + header.count * 4
        for (index, word) in header.enumerated() {
            for byte in 0..<4 {
                bytes[start + index * 4 + byte] = UInt8(truncatingIfNeeded: word >> (24 - 8 * byte))
            }
        }
        if count == 0 { bytes.removeLast(bytes.count - headerEnd) }
        return bytes
    }
}

extension Parameters {
    package mutating func append(_ values: [Int16]) {
        appendArray(.int16, values) { $0.append($1) }
    }

    package mutating func append(_ values: [Int16?]) {
        appendArray(.int16, values) { $0.append($1) }
    }

    package mutating func append(_ values: [Int32]) {
        appendArray(.int32, values) { $0.append($1) }
    }

    package mutating func append(_ values: [Int32?]) {
        appendArray(.int32, values) { $0.append($1) }
    }

    package mutating func append(_ values: [Int64]) {
        appendArray(.int64, values) { $0.append($1) }
    }

    package mutating func append(_ values: [Int64?]) {
        appendArray(.int64, values) { $0.append($1) }
    }

    package mutating func append(_ values: [Double]) {
        appendArray(.double, values) { $0.append($1) }
    }

    package mutating func append(_ values: [Double?]) {
        appendArray(.double, values) { $0.append($1) }
    }

    package mutating func append(_ values: [Bool]) {
        appendArray(.bool, values) { $0.append($1) }
    }

    package mutating func append(_ values: [Bool?]) {
        appendArray(.bool, values) { $0.append($1) }
    }

    package mutating func append(_ values: [String]) {
        appendArray(.text, values) { $0.append($1) }
    }

    package mutating func append(_ values: [String?]) {
        appendArray(.text, values) { $0.append($1) }
    }

    package mutating func append(_ values: [UUID]) {
        appendArray(.uuid, values) { $0.append($1) }
    }

    package mutating func append(_ values: [UUID?]) {
        appendArray(.uuid, values) { $0.append($1) }
    }

    package mutating func append(byteArrays values: [[UInt8]]) {
        appendArray(.bytes, values) { $0.append(bytes: $1) }
    }

    package mutating func append(byteArrays values: [[UInt8]?]) {
        appendArray(.bytes, values) { $0.append(bytes: $1) }
    }

    package mutating func append(timestamps values: [Int64]) {
        appendArray(.timestamp, values) { $0.append(timestamp: $1) }
    }

    package mutating func append(timestamps values: [Int64?]) {
        appendArray(.timestamp, values) { $0.append(timestamp: $1) }
    }

    @inline(__always)
    private mutating func appendArray<Value>(
        _ type: ValueType, _ values: [Value], _ write: (inout ArrayWriter, Value) -> Void
    ) {
        append(arrayOf: type, countHint: values.count) { writer in
            for value in values { write(&writer, value) }
        }
    }

    @inline(__always)
    private mutating func appendArray<Value>(
        _ type: ValueType, _ values: [Value?], _ write: (inout ArrayWriter, Value) -> Void
    ) {
        append(arrayOf: type, countHint: values.count) { writer in
            for value in values {
                if let value { write(&writer, value) } else { writer.appendNull() }
            }
        }
    }
}
