import FoundationEssentials

/// Reads one-dimensional arrays without NULLs. Any other array is an error, `.decoding`.
extension Row {
    func optionalInt64Array(_ column: Int) throws(PostgresError) -> [Int64]? {
        try unsafe array(column, of: .int64) {
            unsafe UInt64(bigEndianBytes: $0).map { Int64(bitPattern: $0) }
        }
    }

    func optionalStringArray(_ column: Int) throws(PostgresError) -> [String]? {
        try unsafe array(column, of: .text) {
            unsafe String(validating: $0.bindMemory(to: UInt8.self), as: UTF8.self)
        }
    }

    func optionalUUIDArray(_ column: Int) throws(PostgresError) -> [UUID]? {
        try unsafe array(column, of: .uuid) { unsafe UUID(bytes: $0) }
    }

    @inline(__always)
    private func array<Element>(
        _ column: Int, of elementType: ValueType, _ decode: (UnsafeRawBufferPointer) -> Element?
    ) throws(PostgresError) -> [Element]? {
        try unsafe value(column) { type, bytes throws(PostgresError) in
            guard type == elementType.arrayOID else { return nil }
            return unsafe decodeArray(bytes, of: elementType, decode)
        }
    }
}

/// Decodes what `ArrayWriter` encodes. Nil if the bytes are not a one-dimensional array without NULLs.
private func decodeArray<Element>(
    _ bytes: UnsafeRawBufferPointer, of elementType: ValueType, _ decode: (UnsafeRawBufferPointer) -> Element?
) -> [Element]? {
    var position = 0
    /// The next `count` bytes; nil if there are fewer.
    func take(_ count: Int32) -> UnsafeRawBufferPointer? {
        guard count >= 0, bytes.count - position >= count else { return nil }
        defer { position += Int(count) }
        return unsafe UnsafeRawBufferPointer(rebasing: bytes[position..<position + Int(count)])
    }
    func word() -> Int32? {
        guard let four = unsafe take(4), let word = unsafe UInt32(bigEndianBytes: four) else { return nil }
        return Int32(bitPattern: word)
    }
    guard let dimensions = word(), word() != nil, let type = word(), type == Int32(elementType.rawValue)
    else {
        return nil
    }
    if dimensions == 0 { return [] }
    guard dimensions == 1, let count = word(), count >= 0, word() != nil else { return nil }
    var elements: [Element] = []
    // Each element takes four bytes or more, so the count cannot make us reserve more than was received.
    elements.reserveCapacity(min(Int(count), bytes.count / 4))
    for _ in 0..<count {
        guard let length = word(), let value = unsafe take(length), let element = unsafe decode(value) else {
            return nil
        }
        elements.append(element)
    }
    return elements
}
