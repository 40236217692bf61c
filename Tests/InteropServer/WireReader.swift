import NIOCore

/// Bytes that are not the message they should be.
struct WireError: Error, Equatable {
    var message: String
}

/// Reads a protobuf message field by field. Whoever reads it passes over the fields that it does not know.
///
/// Written by hand for the few small messages of the test service, so that this program needs no generated code.
/// Nothing is trusted: each length is compared with what is there.
struct WireReader {
    enum Value {
        case varint(UInt64)
        /// A text, bytes or a message: whoever knows the field knows which.
        case bytes(ByteBuffer)
        /// Four or eight bytes. No field that is known here has this type, so they are not kept.
        case fixed
    }

    private var unread: ByteBuffer

    init(_ message: ByteBuffer) {
        unread = message
    }

    /// The next field; nil at the end of the message.
    mutating func next() throws(WireError) -> (number: UInt64, value: Value)? {
        guard unread.readableBytes > 0 else { return nil }
        let tag = try varint()
        let number = tag >> 3
        guard Self.numbers.contains(number) else { throw WireError(message: "no field has the number \(number)") }
        switch tag & 7 {
        case 0: return (number, .varint(try varint()))
        case 1: return (number, try fixed(bytes: 8))
        case 2: return (number, .bytes(try lengthDelimited()))
        case 5: return (number, try fixed(bytes: 4))
        // 3 and 4 are the groups of long ago, which no message of proto3 can have.
        default: throw WireError(message: "field \(number) has the wire type \(tag & 7)")
        }
    }

    private static let numbers: ClosedRange<UInt64> = 1...0x1fff_ffff

    /// Seven bits a byte, the lowest first; the highest bit says that there is another one.
    private mutating func varint() throws(WireError) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = unread.readInteger(as: UInt8.self) else { throw Self.cutShort }
            value |= UInt64(byte & 0x7f) << shift
            if byte & 0x80 == 0 { return value }
        }
        throw WireError(message: "a number is longer than ten bytes")
    }

    private mutating func lengthDelimited() throws(WireError) -> ByteBuffer {
        let count = try varint()
        guard let length = Int(exactly: count), length <= unread.readableBytes,
            let bytes = unread.readSlice(length: length)
        else { throw Self.cutShort }
        return bytes
    }

    private mutating func fixed(bytes count: Int) throws(WireError) -> Value {
        guard unread.readableBytes >= count else { throw Self.cutShort }
        unread.moveReaderIndex(forwardBy: count)
        return .fixed
    }

    private static let cutShort = WireError(message: "the message is cut short")
}
