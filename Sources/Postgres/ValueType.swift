/// The types that this module reads and writes in binary, by their fixed object ids (`pg_type.dat`).
package enum ValueType: UInt32, Sendable {
    case bool = 16
    case bytes = 17
    case int64 = 20
    case int16 = 21
    case int32 = 23
    case text = 25
    case double = 701
    case timestamp = 1184
    case uuid = 2950

    /// The object id of the array of this type.
    package var arrayOID: UInt32 {
        switch self {
        case .bool: 1000
        case .bytes: 1001
        case .int64: 1016
        case .int16: 1005
        case .int32: 1007
        case .text: 1009
        case .double: 1022
        case .timestamp: 1185
        case .uuid: 2951
        }
    }
}

/// Converts times. On the wire they are microseconds since 2000-01-01; in this program they are microseconds
/// since 1970-01-01 (UTC).
enum WireTime {
    /// The difference of the epochs: 10,957 days.
    private static let epochDifference: Int64 = 946_684_800_000_000

    /// `Int64.max` and `.min` stand for `infinity` and `-infinity`, as they do on the wire.
    static func encode(_ unixMicroseconds: Int64) -> Int64 {
        if unixMicroseconds == .max { return .max }
        let (value, overflow) = unixMicroseconds.subtractingReportingOverflow(epochDifference)
        return overflow ? .min : value
    }

    static func decode(_ wireMicroseconds: Int64) -> Int64 {
        if wireMicroseconds == .min { return .min }
        let (value, overflow) = wireMicroseconds.addingReportingOverflow(epochDifference)
        return overflow ? .max : value
    }
}
