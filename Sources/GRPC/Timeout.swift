/// `grpc-timeout`: one to eight digits and a unit (PROTOCOL-HTTP2.md, "Timeout").
enum Timeout {
    /// Longer timeouts count as this: about 100 years.
    private static let secondsMax: Int64 = 100 * 365 * 24 * 3600

    /// - Returns: nil when it is malformed.
    static func decode(_ value: some BidirectionalCollection<UInt8>) -> Duration? {
        guard let unit = value.last, (2...9).contains(value.count) else { return nil }
        var count: Int64 = 0
        for byte in value.dropLast() {
            guard (0x30...0x39).contains(byte) else { return nil }
            count = count * 10 + Int64(byte - 0x30)
        }
        switch unit {
        case UInt8(ascii: "H"): return .seconds(min(count * 3600, secondsMax))
        case UInt8(ascii: "M"): return .seconds(min(count * 60, secondsMax))
        case UInt8(ascii: "S"): return .seconds(count)
        case UInt8(ascii: "m"): return .milliseconds(count)
        case UInt8(ascii: "u"): return .microseconds(count)
        case UInt8(ascii: "n"): return .nanoseconds(count)
        default: return nil
        }
    }

    /// Rounds up to the finest unit that fits eight digits.
    static func encode(_ timeout: Duration) -> String {
        let limit: Int64 = 99_999_999
        let (seconds, attoseconds) = timeout.components
        guard seconds >= 0, attoseconds >= 0 else { return "0n" }
        let nanoseconds = (attoseconds + 999_999_999) / 1_000_000_000
        if seconds == 0, nanoseconds <= limit { return "\(nanoseconds)n" }
        if seconds < 99 {
            return "\(seconds * 1_000_000 + (attoseconds + 999_999_999_999) / 1_000_000_000_000)u"
        }
        if seconds < 99_999 {
            return "\(seconds * 1_000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)m"
        }
        let whole = min(seconds, secondsMax - 1) + (attoseconds > 0 ? 1 : 0)
        return whole <= limit ? "\(whole)S" : "\((whole + 3599) / 3600)H"
    }
}
