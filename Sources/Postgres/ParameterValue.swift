package import FoundationEssentials

/// A Swift type that a statement's parameter can have.
package protocol ParameterValue: Sendable {
    /// The object id of the parameter's type.
    static var parameterType: UInt32 { get }
    /// Appends one value of that type; nil is NULL.
    static func append(_ value: Self?, to parameters: inout Parameters)
}

/// A Swift type whose arrays are parameters. It is given whole arrays, so that a loop over the elements is not generic.
package protocol ParameterElement: Sendable {
    /// The object id of the array's type.
    static var arrayParameterType: UInt32 { get }
    /// Appends one array; nil is NULL.
    static func append(_ values: [Self]?, to parameters: inout Parameters)
}

/// An element of arrays that can hold NULL.
package protocol NullableParameterElement: ParameterElement {
    static func append(nullable values: [Self?], to parameters: inout Parameters)
}

extension Optional: ParameterValue where Wrapped: ParameterValue {
    package static var parameterType: UInt32 { Wrapped.parameterType }
    package static func append(_ value: Wrapped??, to parameters: inout Parameters) {
        Wrapped.append(value ?? nil, to: &parameters)
    }
}

extension Optional: ParameterElement where Wrapped: NullableParameterElement {
    package static var arrayParameterType: UInt32 { Wrapped.arrayParameterType }
    package static func append(_ values: [Wrapped?]?, to parameters: inout Parameters) {
        if let values {
            Wrapped.append(nullable: values, to: &parameters)
        } else {
            Wrapped.append(nil, to: &parameters)
        }
    }
}

extension Array: ParameterValue where Element: ParameterElement {
    package static var parameterType: UInt32 { Element.arrayParameterType }
    package static func append(_ value: [Element]?, to parameters: inout Parameters) {
        Element.append(value, to: &parameters)
    }
}

/// `[UInt8]` is a `bytea`.
extension UInt8: ParameterElement {
    package static var arrayParameterType: UInt32 { ValueType.bytes.rawValue }
    package static func append(_ values: [UInt8]?, to parameters: inout Parameters) {
        parameters.append(bytes: values)
    }
}

/// `[[UInt8]]` is an array of `bytea`.
extension Array: ParameterElement where Element == UInt8 {
    package static var arrayParameterType: UInt32 { ValueType.bytes.arrayOID }
    package static func append(_ values: [[UInt8]]?, to parameters: inout Parameters) {
        if let values {
            parameters.append(byteArrays: values)
        } else {
            parameters.appendNull(arrayOf: .bytes)
        }
    }
}

extension Array: NullableParameterElement where Element == UInt8 {
    package static func append(nullable values: [[UInt8]?], to parameters: inout Parameters) {
        parameters.append(byteArrays: values)
    }
}

extension Int16: ParameterValue, NullableParameterElement {
    package static var parameterType: UInt32 { ValueType.int16.rawValue }
    package static func append(_ value: Int16?, to parameters: inout Parameters) { parameters.append(value) }

    package static var arrayParameterType: UInt32 { ValueType.int16.arrayOID }
    package static func append(_ values: [Int16]?, to parameters: inout Parameters) {
        if let values { parameters.append(values) } else { parameters.appendNull(arrayOf: .int16) }
    }
    package static func append(nullable values: [Int16?], to parameters: inout Parameters) {
        parameters.append(values)
    }
}

extension Int32: ParameterValue, NullableParameterElement {
    package static var parameterType: UInt32 { ValueType.int32.rawValue }
    package static func append(_ value: Int32?, to parameters: inout Parameters) { parameters.append(value) }

    package static var arrayParameterType: UInt32 { ValueType.int32.arrayOID }
    package static func append(_ values: [Int32]?, to parameters: inout Parameters) {
        if let values { parameters.append(values) } else { parameters.appendNull(arrayOf: .int32) }
    }
    package static func append(nullable values: [Int32?], to parameters: inout Parameters) {
        parameters.append(values)
    }
}

extension Int64: ParameterValue, NullableParameterElement {
    package static var parameterType: UInt32 { ValueType.int64.rawValue }
    package static func append(_ value: Int64?, to parameters: inout Parameters) { parameters.append(value) }

    package static var arrayParameterType: UInt32 { ValueType.int64.arrayOID }
    package static func append(_ values: [Int64]?, to parameters: inout Parameters) {
        if let values { parameters.append(values) } else { parameters.appendNull(arrayOf: .int64) }
    }
    package static func append(nullable values: [Int64?], to parameters: inout Parameters) {
        parameters.append(values)
    }
}

extension Double: ParameterValue, NullableParameterElement {
    package static var parameterType: UInt32 { ValueType.double.rawValue }
    package static func append(_ value: Double?, to parameters: inout Parameters) { parameters.append(value) }

    package static var arrayParameterType: UInt32 { ValueType.double.arrayOID }
    package static func append(_ values: [Double]?, to parameters: inout Parameters) {
        if let values { parameters.append(values) } else { parameters.appendNull(arrayOf: .double) }
    }
    package static func append(nullable values: [Double?], to parameters: inout Parameters) {
        parameters.append(values)
    }
}

extension Bool: ParameterValue, NullableParameterElement {
    package static var parameterType: UInt32 { ValueType.bool.rawValue }
    package static func append(_ value: Bool?, to parameters: inout Parameters) { parameters.append(value) }

    package static var arrayParameterType: UInt32 { ValueType.bool.arrayOID }
    package static func append(_ values: [Bool]?, to parameters: inout Parameters) {
        if let values { parameters.append(values) } else { parameters.appendNull(arrayOf: .bool) }
    }
    package static func append(nullable values: [Bool?], to parameters: inout Parameters) {
        parameters.append(values)
    }
}

extension String: ParameterValue, NullableParameterElement {
    package static var parameterType: UInt32 { ValueType.text.rawValue }
    package static func append(_ value: String?, to parameters: inout Parameters) { parameters.append(value) }

    package static var arrayParameterType: UInt32 { ValueType.text.arrayOID }
    package static func append(_ values: [String]?, to parameters: inout Parameters) {
        if let values { parameters.append(values) } else { parameters.appendNull(arrayOf: .text) }
    }
    package static func append(nullable values: [String?], to parameters: inout Parameters) {
        parameters.append(values)
    }
}

extension UUID: ParameterValue, NullableParameterElement {
    package static var parameterType: UInt32 { ValueType.uuid.rawValue }
    package static func append(_ value: UUID?, to parameters: inout Parameters) { parameters.append(value) }

    package static var arrayParameterType: UInt32 { ValueType.uuid.arrayOID }
    package static func append(_ values: [UUID]?, to parameters: inout Parameters) {
        if let values { parameters.append(values) } else { parameters.appendNull(arrayOf: .uuid) }
    }
    package static func append(nullable values: [UUID?], to parameters: inout Parameters) {
        parameters.append(values)
    }
}
