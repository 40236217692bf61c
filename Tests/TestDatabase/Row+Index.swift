package import Foundation
package import Postgres

/// Reads columns by their index. Tests write short statements with one or two columns, often without names.
extension Row {
    package func int16(_ column: Int) throws(PostgresError) -> Int16 { try self[Column(index: column)] }
    package func optionalInt16(_ column: Int) throws(PostgresError) -> Int16? {
        try self[Column(index: column)]
    }
    package func int32(_ column: Int) throws(PostgresError) -> Int32 { try self[Column(index: column)] }
    package func optionalInt32(_ column: Int) throws(PostgresError) -> Int32? {
        try self[Column(index: column)]
    }
    package func int64(_ column: Int) throws(PostgresError) -> Int64 { try self[Column(index: column)] }
    package func optionalInt64(_ column: Int) throws(PostgresError) -> Int64? {
        try self[Column(index: column)]
    }
    package func double(_ column: Int) throws(PostgresError) -> Double { try self[Column(index: column)] }
    package func optionalDouble(_ column: Int) throws(PostgresError) -> Double? {
        try self[Column(index: column)]
    }
    package func bool(_ column: Int) throws(PostgresError) -> Bool { try self[Column(index: column)] }
    package func optionalBool(_ column: Int) throws(PostgresError) -> Bool? {
        try self[Column(index: column)]
    }
    package func string(_ column: Int) throws(PostgresError) -> String { try self[Column(index: column)] }
    package func optionalString(_ column: Int) throws(PostgresError) -> String? {
        try self[Column(index: column)]
    }
    package func uuid(_ column: Int) throws(PostgresError) -> UUID { try self[Column(index: column)] }
    package func optionalUUID(_ column: Int) throws(PostgresError) -> UUID? {
        try self[Column(index: column)]
    }
    package func bytes(_ column: Int) throws(PostgresError) -> [UInt8] { try self[Column(index: column)] }
    package func optionalBytes(_ column: Int) throws(PostgresError) -> [UInt8]? {
        try self[Column(index: column)]
    }
    package func int64Array(_ column: Int) throws(PostgresError) -> [Int64] {
        try self[Column(index: column)]
    }
    package func stringArray(_ column: Int) throws(PostgresError) -> [String] {
        try self[Column(index: column)]
    }
    package func uuidArray(_ column: Int) throws(PostgresError) -> [UUID] { try self[Column(index: column)] }
    /// Microseconds since 1970-01-01 UTC.
    package func timestamp(_ column: Int) throws(PostgresError) -> Int64 {
        guard let value = try optionalTimestamp(column) else { throw PostgresError(.decoding, "NULL") }
        return value
    }
}
