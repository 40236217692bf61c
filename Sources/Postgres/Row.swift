import FoundationEssentials

/// One row of a `QueryResult`, which it keeps alive. Values are read by `row[column]`. The getters here take the index of a
/// column, return nil for NULL, and throw `.decoding` when the column's type or the value's length is not what the name of
/// the getter says.
package struct Row {
    let result: QueryResult
    let index: Int32

    func optionalInt16(_ column: Int) throws(PostgresError) -> Int16? {
        try unsafe value(column) { type, value throws(PostgresError) in
            guard type == ValueType.int16.rawValue, let word = unsafe UInt16(bigEndianBytes: value) else {
                return nil
            }
            return Int16(bitPattern: word)
        }
    }

    func optionalInt32(_ column: Int) throws(PostgresError) -> Int32? {
        try unsafe value(column) { type, value throws(PostgresError) in
            switch type {
            case ValueType.int32.rawValue:
                unsafe UInt32(bigEndianBytes: value).map { Int32(bitPattern: $0) }
            case ValueType.int16.rawValue:
                unsafe UInt16(bigEndianBytes: value).map { Int32(Int16(bitPattern: $0)) }
            default:
                nil
            }
        }
    }

    /// Reads an integer of any size.
    func optionalInt64(_ column: Int) throws(PostgresError) -> Int64? {
        try unsafe value(column) { type, value throws(PostgresError) in
            switch type {
            case ValueType.int64.rawValue:
                unsafe UInt64(bigEndianBytes: value).map { Int64(bitPattern: $0) }
            case ValueType.int32.rawValue:
                unsafe UInt32(bigEndianBytes: value).map { Int64(Int32(bitPattern: $0)) }
            case ValueType.int16.rawValue:
                unsafe UInt16(bigEndianBytes: value).map { Int64(Int16(bitPattern: $0)) }
            default:
                nil
            }
        }
    }

    /// Reads `float8` and `float4`.
    func optionalDouble(_ column: Int) throws(PostgresError) -> Double? {
        try unsafe value(column) { type, value throws(PostgresError) in
            switch type {
            case ValueType.double.rawValue:
                unsafe UInt64(bigEndianBytes: value).map { Double(bitPattern: $0) }
            case 700:  // float4
                unsafe UInt32(bigEndianBytes: value).map { Double(Float(bitPattern: $0)) }
            default:
                nil
            }
        }
    }

    func optionalBool(_ column: Int) throws(PostgresError) -> Bool? {
        try unsafe value(column) { type, value throws(PostgresError) in
            guard type == ValueType.bool.rawValue, value.count == 1 else { return nil }
            return unsafe value[0] != 0
        }
    }

    /// Reads `text`, `varchar`, `char(n)`, `name` and `json`.
    func optionalString(_ column: Int) throws(PostgresError) -> String? {
        try unsafe value(column) { type, value throws(PostgresError) in
            switch type {
            case ValueType.text.rawValue, 1043, 1042, 19, 114, 705:
                unsafe String(validating: value.bindMemory(to: UInt8.self), as: UTF8.self)
            default:
                nil
            }
        }
    }

    func optionalBytes(_ column: Int) throws(PostgresError) -> [UInt8]? {
        try unsafe value(column) { type, value throws(PostgresError) in
            guard type == ValueType.bytes.rawValue else { return nil }
            return unsafe [UInt8](value)
        }
    }

    func optionalUUID(_ column: Int) throws(PostgresError) -> UUID? {
        try unsafe value(column) { type, value throws(PostgresError) in
            guard type == ValueType.uuid.rawValue else { return nil }
            return unsafe UUID(bytes: value)
        }
    }

    /// Reads a `timestamptz`, as microseconds since 1970-01-01 UTC.
    package func optionalTimestamp(_ column: Int) throws(PostgresError) -> Int64? {
        try unsafe value(column) { type, value throws(PostgresError) in
            guard type == ValueType.timestamp.rawValue, let word = unsafe UInt64(bigEndianBytes: value) else {
                return nil
            }
            return WireTime.decode(Int64(bitPattern: word))
        }
    }

    /// A text that is the raw value of an enum. Throws `unknownValue` for any other text.
    ///
    /// - Parameters:
    ///   - name: the name of the value, for the error.
    ///   - location: the object that the value belongs to, for the error.
    package func word<Word: RawRepresentable<String>>(
        _ column: Column<String>, _ name: String, of location: @autoclosure () -> String
    ) throws(PostgresError) -> Word {
        try word(try self[column], name, of: location())
    }

    /// Reads such a value from a column that may be NULL.
    package func word<Word: RawRepresentable<String>>(
        _ column: Column<String?>, _ name: String, of location: @autoclosure () -> String
    ) throws(PostgresError) -> Word? {
        guard let text = try self[column] else { return nil }
        return try word(text, name, of: location())
    }

    private func word<Word: RawRepresentable<String>>(
        _ text: String, _ name: String, of location: @autoclosure () -> String
    ) throws(PostgresError) -> Word {
        guard let word = Word(rawValue: text) else {
            let value = "\(name) \"\(text)\""
            throw PostgresError(
                .unknownValue(value), "\(value) of \(location()) is unknown to this version",
                statement: result.statement)
        }
        return word
    }

    /// Runs `decode` on a value that is not NULL. If it returns nil, the value has another type or length, which
    /// is an error.
    @inline(__always)
    func value<Value>(
        _ column: Int,
        _ decode: (_ type: UInt32, UnsafeRawBufferPointer) throws(PostgresError) -> Value?
    ) throws(PostgresError) -> Value? {
        try unsafe result.withValue(row: index, column: column) { type, bytes throws(PostgresError) in
            guard let bytes = unsafe bytes else { return nil }
            guard let value = try unsafe decode(type, bytes) else {
                throw PostgresError(
                    .decoding,
                    "column \(result.name(ofColumn: column)) holds another type (\(type), \(bytes.count) bytes)",
                    statement: result.statement)
            }
            return value
        }
    }

    @inline(__always)
    func notNull<Value>(_ value: Value?, _ column: Int) throws(PostgresError) -> Value {
        guard let value else { throw nullError(column) }
        return value
    }

    /// The error of a value that must not be NULL.
    package func nullError(_ column: Int) -> PostgresError {
        PostgresError(
            .decoding, "column \(result.name(ofColumn: column)) is NULL", statement: result.statement)
    }
}

extension FixedWidthInteger {
    /// Nil unless the number of bytes is the size of the integer.
    @inline(__always)
    init?(bigEndianBytes bytes: UnsafeRawBufferPointer) {
        guard bytes.count == MemoryLayout<Self>.size else { return nil }
        self = unsafe Self(bigEndian: bytes.loadUnaligned(as: Self.self))
    }
}

extension UUID {
    init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count == 16 else { return nil }
        self = unsafe UUID(uuid: bytes.loadUnaligned(as: uuid_t.self))
    }
}
