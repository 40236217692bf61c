import FoundationEssentials
import JobModel

extension Timestamp {
    /// The time in UTC as RFC 3339 has it, with 0, 3 or 6 digits of a second.
    var text: String {
        let (quotient, remainder) = microseconds.quotientAndRemainder(dividingBy: 1_000_000)
        // Fractions count forward, even before 1970.
        let seconds = remainder < 0 ? quotient - 1 : quotient
        let fraction = remainder < 0 ? remainder + 1_000_000 : remainder
        let base = Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
        return base.dropLast() + fractionText(fraction) + "Z"
    }
}

extension Duration {
    /// The duration for people: `0.4s`, `12s`, `3:05`, `1:02:03`, `2d 3h`.
    var brief: String {
        let seconds = max(0, components.seconds)
        if self < .seconds(1) {
            let tenths = max(0, milliseconds) / 100
            return "0.\(tenths)s"
        }
        if seconds < 60 { return "\(seconds)s" }
        if seconds >= 86_400 { return "\(seconds / 86_400)d \(seconds % 86_400 / 3600)h" }
        let clock = "\(twoDigits(seconds / 60 % 60)):\(twoDigits(seconds % 60))"
        return seconds >= 3600 ? "\(seconds / 3600):\(clock)" : "\(seconds / 60):\(twoDigits(seconds % 60))"
    }
}

extension Timestamp {
    /// The time since `earlier`, never negative, because two machines' clocks may be compared here.
    func since(_ earlier: Timestamp) -> Duration {
        .microseconds(max(0, microseconds - earlier.microseconds))
    }
}

private func twoDigits(_ value: Int64) -> String {
    value < 10 ? "0\(value)" : "\(value)"
}

/// The fraction of a second with its point. `microseconds` is 0 to 999,999.
private func fractionText(_ microseconds: Int64) -> String {
    if microseconds == 0 { return "" }
    let digits = String(String(1_000_000 + microseconds).dropFirst())
    return "." + (digits.hasSuffix("000") ? String(digits.dropLast(3)) : digits)
}
