package import FoundationEssentials

/// The values of one statement's parameters. As they are appended, they are encoded in the binary format into one
/// buffer, each with its explicit type.
///
/// `nil` is NULL. Times are microseconds since 1970-01-01 UTC (`Int64.max` and `.min` are the infinities). A
/// string must not contain NUL, which the server refuses (22021).
package struct Parameters: Sendable {
    /// The limits of one statement. The protocol counts parameters in 16 bits. The server refuses messages of 1
    /// GiB; this limit is lower, because a message of even 256 MiB is a mistake.
    package static let countMax = 65_535
    package static let bytesMax = 256 << 20

    /// The object ids of the parameters' types, in their order.
    package private(set) var types: [UInt32] = []
    /// The offset of each value in `bytes`, or -1 for NULL.
    private var offsets: [Int] = []
    private var lengths: [Int32] = []
    private var bytes: [UInt8] = []

    package init() {}

    package init(_ build: (inout Parameters) -> Void) {
        build(&self)
    }

    package var count: Int { types.count }
    /// The size of the encoded values in bytes.
    package var byteCount: Int { bytes.count }

    package mutating func append(_ value: Int16?) {
        append(.int16, value) { $0.appendBigEndian(UInt16(bitPattern: $1)) }
    }

    package mutating func append(_ value: Int32?) {
        append(.int32, value) { $0.appendBigEndian(UInt32(bitPattern: $1)) }
    }

    package mutating func append(_ value: Int64?) {
        append(.int64, value) { $0.appendBigEndian(UInt64(bitPattern: $1)) }
    }

    package mutating func append(_ value: Double?) {
        append(.double, value) { $0.appendBigEndian($1.bitPattern) }
    }

    package mutating func append(_ value: Bool?) {
        append(.bool, value) { $0.append($1 ? 1 : 0) }
    }

    package mutating func append(_ value: String?) {
        append(.text, value) { $0.append(contentsOf: $1.utf8) }
    }

    package mutating func append(_ value: UUID?) {
        append(.uuid, value) { $0.append(uuid: $1) }
    }

    package mutating func append(bytes value: [UInt8]?) {
        append(.bytes, value) { $0.append(contentsOf: $1) }
    }

    package mutating func append(timestamp value: Int64?) {
        append(.timestamp, value) { $0.appendBigEndian(UInt64(bitPattern: WireTime.encode($1))) }
    }

    /// Appends a whole array that is NULL.
    package mutating func appendNull(arrayOf type: ValueType) {
        appendSlot(type.arrayOID, offset: -1, length: 0)
    }

    /// Appends a one-dimensional array. `build` writes its elements into the buffer, in which there is room for
    /// `countHint` of them.
    package mutating func append(
        arrayOf type: ValueType, countHint: Int, _ build: (inout ArrayWriter) -> Void
    ) {
        let offset = bytes.count
        var writer = ArrayWriter(type, into: bytes.take(), countHint: countHint)
        build(&writer)
        bytes = writer.finish()
        appendSlot(type.arrayOID, offset: offset, length: bytes.count - offset)
    }

    @inline(__always)
    private mutating func append<Value>(
        _ type: ValueType, _ value: Value?, _ encode: (inout [UInt8], Value) -> Void
    ) {
        guard let value else { return appendSlot(type.rawValue, offset: -1, length: 0) }
        let offset = bytes.count
        encode(&bytes, value)
        appendSlot(type.rawValue, offset: offset, length: bytes.count - offset)
    }

    private mutating func appendSlot(_ type: UInt32, offset: Int, length: Int) {
        types.append(type)
        offsets.append(offset)
        // A length that does not fit an Int32 is over `bytesMax`, and is refused before anything is sent.
        lengths.append(Int32(clamping: length))
    }

    /// Lends the arrays in libpq's form: values (a NULL pointer for NULL), lengths, and formats (all 1, binary).
    func withLibpqArrays<R>(
        _ body: (
            _ values: UnsafePointer<UnsafePointer<CChar>?>?, _ lengths: UnsafePointer<Int32>?,
            _ formats: UnsafePointer<Int32>?
        ) -> R
    ) -> R {
        guard count > 0 else { return body(nil, nil, nil) }
        return unsafe withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: count) {
            values in
            unsafe withUnsafeTemporaryAllocation(of: Int32.self, capacity: count) { formats in
                unsafe formats.initialize(repeating: 1)
                return unsafe bytes.withUnsafeBytes { buffer in
                    // An empty value still needs an address that is not NULL; nothing is read from it.
                    let base = unsafe buffer.baseAddress ?? UnsafeRawPointer(formats.baseAddress!)
                    for index in 0..<count {
                        let address: UnsafeRawPointer? =
                            unsafe offsets[index] < 0 ? nil : base + offsets[index]
                        unsafe values.initializeElement(
                            at: index, to: address?.assumingMemoryBound(to: CChar.self))
                    }
                    return unsafe lengths.withUnsafeBufferPointer { lengths in
                        unsafe body(
                            UnsafePointer(values.baseAddress), lengths.baseAddress,
                            UnsafePointer(formats.baseAddress))
                    }
                }
            }
        }
    }
}

extension [UInt8] {
    /// Moves the buffer out, so that it keeps a single owner.
    mutating func take() -> [UInt8] {
        let taken = self
        self = []
        return taken
    }

    @inline(__always)
    mutating func appendBigEndian<T: FixedWidthInteger>(_ value: T) {
        unsafe Swift.withUnsafeBytes(of: value.bigEndian) { unsafe append(contentsOf: $0) }
    }

    @inline(__always)
    mutating func append(uuid: UUID) {
        unsafe Swift.withUnsafeBytes(of: uuid.uuid) { unsafe append(contentsOf: $0) }
    }
}
