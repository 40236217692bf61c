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
        /// Of a type that none of the fields has which are known here, so it is not kept.
        case other
    }

    private var unread: ByteBuffer

    init(_ message: ByteBuffer) {
        unread = message
    }

    /// The next field; nil at the end of the message.
    mutating func next() throws(WireError) -> (number: UInt64, value: Value)? {
        guard unread.readableBytes > 0 else { return nil }
        let (number, type) = try tag()
        return (number, try value(of: number, type: type))
    }

    private mutating func tag() throws(WireError) -> (number: UInt64, type: UInt64) {
        let tag = try varint()
        let number = tag >> 3
        guard Self.numbers.contains(number) else {
            throw WireError(message: "no field has the number \(number)")
        }
        return (number, tag & 7)
    }

    private mutating func value(of number: UInt64, type: UInt64) throws(WireError) -> Value {
        switch type {
        case 0: .varint(try varint())
        case 1: try fixed(bytes: 8)
        case 2: .bytes(try lengthDelimited())
        case 3: try group(number)
        case 5: try fixed(bytes: 4)
        default: throw WireError(message: "field \(number) has the wire type \(type)")
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
        return .other
    }

    /// The way of long ago to put a message into another, up to a tag of type 4. Nobody's fields are in it.
    private mutating func group(_ number: UInt64) throws(WireError) -> Value {
        var open = [number]
        while let innermost = open.last {
            let (number, type) = try tag()
            switch type {
            case 3:
                guard open.count < Self.groupsMax else {
                    throw WireError(message: "groups are nested too deep")
                }
                open.append(number)
            case 4:
                guard number == innermost else { throw WireError(message: "a group ends as another one") }
                open.removeLast()
            default:
                _ = try value(of: number, type: type)
            }
        }
        return .other
    }

    /// As deep as other implementations go.
    private static let groupsMax = 100

    private static let cutShort = WireError(message: "the message is cut short")
}
