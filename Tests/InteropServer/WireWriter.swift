import NIOCore

/// Writes a protobuf message field by field.
struct WireWriter {
    private(set) var message = ByteBuffer()

    mutating func write(varint value: UInt64, field number: UInt64) {
        append(varint: number << 3)
        append(varint: value)
    }

    mutating func write(bytes: ByteBuffer, field number: UInt64) {
        append(varint: number << 3 | 2)
        append(varint: UInt64(bytes.readableBytes))
        message.writeImmutableBuffer(bytes)
    }

    private mutating func append(varint value: UInt64) {
        var rest = value
        while rest > 0x7f {
            message.writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        message.writeInteger(UInt8(truncatingIfNeeded: rest))
    }
}
