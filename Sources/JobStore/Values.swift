import FoundationEssentials
package import JobModel
package import Postgres
package import Support

// The encoding of types of the domain as parameters, and their decoding from columns.

extension Timestamp: ParameterValue, NullableParameterElement, ColumnValue {
    package static var parameterType: UInt32 { ValueType.timestamp.rawValue }
    package static func append(_ value: Timestamp?, to parameters: inout Parameters) {
        parameters.append(timestamp: value?.microseconds)
    }

    package static var arrayParameterType: UInt32 { ValueType.timestamp.arrayOID }
    package static func append(_ values: [Timestamp]?, to parameters: inout Parameters) {
        if let values {
            parameters.append(timestamps: values.map(\.microseconds))
        } else {
            parameters.appendNull(arrayOf: .timestamp)
        }
    }
    package static func append(nullable values: [Timestamp?], to parameters: inout Parameters) {
        parameters.append(timestamps: values.map { $0?.microseconds })
    }

    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> Timestamp {
        guard let value = try readOptional(row, column) else { throw row.nullError(column) }
        return value
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> Timestamp? {
        try row.optionalTimestamp(column).map { Timestamp(microseconds: $0) }
    }
}

extension ExactText: ParameterValue, NullableParameterElement, ColumnValue {
    package static var parameterType: UInt32 { String.parameterType }
    package static func append(_ value: ExactText?, to parameters: inout Parameters) {
        parameters.append(value?.text)
    }

    package static var arrayParameterType: UInt32 { String.arrayParameterType }
    package static func append(_ values: [ExactText]?, to parameters: inout Parameters) {
        String.append(values?.map(\.text), to: &parameters)
    }
    package static func append(nullable values: [ExactText?], to parameters: inout Parameters) {
        parameters.append(values.map { $0?.text })
    }

    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> ExactText {
        ExactText(try String.read(row, column))
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> ExactText? {
        try String.readOptional(row, column).map { ExactText($0) }
    }
}

extension JobID: ParameterValue, ParameterElement, ColumnValue, ColumnElement {
    package static var parameterType: UInt32 { UUID.parameterType }
    package static func append(_ value: JobID?, to parameters: inout Parameters) {
        parameters.append(value?.uuid)
    }

    package static var arrayParameterType: UInt32 { UUID.arrayParameterType }
    package static func append(_ values: [JobID]?, to parameters: inout Parameters) {
        UUID.append(values?.map(\.uuid), to: &parameters)
    }

    package static func read(_ row: Row, _ column: Int) throws(PostgresError) -> JobID {
        JobID(try UUID.read(row, column))
    }
    package static func readOptional(_ row: Row, _ column: Int) throws(PostgresError) -> JobID? {
        try UUID.readOptional(row, column).map { JobID($0) }
    }
    package static func readArray(_ row: Row, _ column: Int) throws(PostgresError) -> [JobID]? {
        try UUID.readArray(row, column)?.map { JobID($0) }
    }
}

/// The users for whom the caller may act, for `SQL.isAllowed`. NULL: all users.
extension UserScope: ParameterValue {
    package static var parameterType: UInt32 { String.arrayParameterType }
    package static func append(_ value: UserScope?, to parameters: inout Parameters) {
        switch value {
        case nil, .all: parameters.appendNull(arrayOf: .text)
        // Text in Postgres cannot hold a NUL, so there is no such user.
        case .only(let users): parameters.append(users.map(\.text).filter { !$0.utf8.contains(0) })
        }
    }
}

// These subscripts do the same as the generic one of `Row`, which is not specialized here and takes several times
// as long.
extension Row {
    subscript(column: Column<Timestamp>) -> Timestamp {
        get throws(PostgresError) { try Timestamp.read(self, column.index) }
    }
    subscript(column: Column<Timestamp?>) -> Timestamp? {
        get throws(PostgresError) { try Timestamp.readOptional(self, column.index) }
    }
    subscript(column: Column<ExactText>) -> ExactText {
        get throws(PostgresError) { try ExactText.read(self, column.index) }
    }
    subscript(column: Column<ExactText?>) -> ExactText? {
        get throws(PostgresError) { try ExactText.readOptional(self, column.index) }
    }
    subscript(column: Column<JobID>) -> JobID {
        get throws(PostgresError) { try JobID.read(self, column.index) }
    }
    subscript(column: Column<JobID?>) -> JobID? {
        get throws(PostgresError) { try JobID.readOptional(self, column.index) }
    }
}
