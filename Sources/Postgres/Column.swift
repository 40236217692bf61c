package import FoundationEssentials

/// A column of one result, found by its name, and the Swift type of its values. `row[column]` reads it.
package struct Column<Value: ColumnValue>: Sendable {
    package let index: Int

    package init(index: Int) {
        self.index = index
    }
}

/// A Swift type that a column's values can have.
package protocol ColumnValue {
    /// Reads one value. Throws `.decoding` when the column has another type, and for NULL, unless the type is an Optional.
    static func read(_ row: Row, _ column: Int) throws(PostgresError) -> Self
    /// Reads one value; nil is NULL.
    static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> Self?
}

/// A Swift type whose arrays are values of columns.
package protocol ColumnElement {
    static func readArray(_ row: Row, _ column: Int) throws(PostgresError) -> [Self]?
}

extension QueryResult {
    /// Finds a column. It should be called once per result and not for each row. Throws `.decoding` when there is
    /// no such column.
    package func column<Value>(
        _ name: String, as type: Value.Type = Value.self
    ) throws(PostgresError) -> Column<Value> {
        Column(index: try index(ofColumn: name))
    }
}

extension Row {
    /// Reads the column's value in this row. Throws `.decoding` for NULL, unless the column's type is an
    /// Optional.
    package subscript<Value>(column: Column<Value>) -> Value {
        get throws(PostgresError) { try Value.read(self, column.index) }
    }
}

extension Optional: ColumnValue where Wrapped: ColumnValue {
    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> Wrapped? {
        try Wrapped.readOptional(row, column)
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> Wrapped?? {
        .some(try Wrapped.readOptional(row, column))
    }
}

extension Array: ColumnValue where Element: ColumnElement {
    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> [Element] {
        try row.notNull(try Element.readArray(row, column), column)
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> [Element]? {
        try Element.readArray(row, column)
    }
}

extension Int16: ColumnValue {
    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> Int16 {
        try row.notNull(try row.optionalInt16(column), column)
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> Int16? {
        try row.optionalInt16(column)
    }
}

extension Int32: ColumnValue {
    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> Int32 {
        try row.notNull(try row.optionalInt32(column), column)
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> Int32? {
        try row.optionalInt32(column)
    }
}

extension Int64: ColumnValue {
    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> Int64 {
        try row.notNull(try row.optionalInt64(column), column)
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> Int64? {
        try row.optionalInt64(column)
    }
}

extension Double: ColumnValue {
    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> Double {
        try row.notNull(try row.optionalDouble(column), column)
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> Double? {
        try row.optionalDouble(column)
    }
}

extension Bool: ColumnValue {
    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> Bool {
        try row.notNull(try row.optionalBool(column), column)
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> Bool? {
        try row.optionalBool(column)
    }
}

extension String: ColumnValue {
    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> String {
        try row.notNull(try row.optionalString(column), column)
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> String? {
        try row.optionalString(column)
    }
}

extension UUID: ColumnValue {
    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> UUID {
        try row.notNull(try row.optionalUUID(column), column)
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> UUID? {
        try row.optionalUUID(column)
    }
}

/// `[UInt8]` is a `bytea`.
extension UInt8: ColumnElement {
    package static func readArray(_ row: Row, _ column: Int) throws(PostgresError) -> [UInt8]? {
        try row.optionalBytes(column)
    }
}

extension Int64: ColumnElement {
    package static func readArray(_ row: Row, _ column: Int) throws(PostgresError) -> [Int64]? {
        try row.optionalInt64Array(column)
    }
}

extension String: ColumnElement {
    package static func readArray(_ row: Row, _ column: Int) throws(PostgresError) -> [String]? {
        try row.optionalStringArray(column)
    }
}

extension UUID: ColumnElement {
    package static func readArray(_ row: Row, _ column: Int) throws(PostgresError) -> [UUID]? {
        try row.optionalUUIDArray(column)
    }
}

// The subscripts below do the same as the generic one. When that is called from another module, it takes several
// times as long, because it is not specialized there.
extension Row {
    package subscript(column: Column<Int16>) -> Int16 {
        get throws(PostgresError) { try notNull(try optionalInt16(column.index), column.index) }
    }
    package subscript(column: Column<Int16?>) -> Int16? {
        get throws(PostgresError) { try optionalInt16(column.index) }
    }
    package subscript(column: Column<Int32>) -> Int32 {
        get throws(PostgresError) { try notNull(try optionalInt32(column.index), column.index) }
    }
    package subscript(column: Column<Int32?>) -> Int32? {
        get throws(PostgresError) { try optionalInt32(column.index) }
    }
    package subscript(column: Column<Int64>) -> Int64 {
        get throws(PostgresError) { try notNull(try optionalInt64(column.index), column.index) }
    }
    package subscript(column: Column<Int64?>) -> Int64? {
        get throws(PostgresError) { try optionalInt64(column.index) }
    }
    package subscript(column: Column<Double>) -> Double {
        get throws(PostgresError) { try notNull(try optionalDouble(column.index), column.index) }
    }
    package subscript(column: Column<Double?>) -> Double? {
        get throws(PostgresError) { try optionalDouble(column.index) }
    }
    package subscript(column: Column<Bool>) -> Bool {
        get throws(PostgresError) { try notNull(try optionalBool(column.index), column.index) }
    }
    package subscript(column: Column<Bool?>) -> Bool? {
        get throws(PostgresError) { try optionalBool(column.index) }
    }
    package subscript(column: Column<String>) -> String {
        get throws(PostgresError) { try notNull(try optionalString(column.index), column.index) }
    }
    package subscript(column: Column<String?>) -> String? {
        get throws(PostgresError) { try optionalString(column.index) }
    }
    package subscript(column: Column<[UInt8]>) -> [UInt8] {
        get throws(PostgresError) { try notNull(try optionalBytes(column.index), column.index) }
    }
    package subscript(column: Column<[UInt8]?>) -> [UInt8]? {
        get throws(PostgresError) { try optionalBytes(column.index) }
    }
    package subscript(column: Column<UUID>) -> UUID {
        get throws(PostgresError) { try notNull(try optionalUUID(column.index), column.index) }
    }
    package subscript(column: Column<UUID?>) -> UUID? {
        get throws(PostgresError) { try optionalUUID(column.index) }
    }
}
