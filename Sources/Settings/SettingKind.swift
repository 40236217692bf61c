package import Authentication
package import GRPC

/// The type of a setting: its values, and how they are read from text.
package struct SettingKind<Value: Sendable>: Sendable {
    /// The placeholder of the value in the help, for example `DURATION`; nil for a switch, whose flag needs no
    /// value.
    package let placeholder: String?
    /// The accepted values, as a text that completes "must be …".
    package let accepted: String
    /// Parses a value; nil if the text is not one.
    package let parse: @Sendable (String) -> Value?
    package let show: @Sendable (Value) -> String
}

extension SettingKind where Value == String {
    /// Text of 1 to `bytesMax` bytes without NUL.
    package static func text(_ placeholder: String, bytesMax: Int = 4096) -> Self {
        Self(
            placeholder: placeholder, accepted: "text of 1 to \(bytesMax) bytes",
            parse: { (1...bytesMax).contains($0.utf8.count) && !$0.utf8.contains(0) ? $0 : nil },
            show: { $0 })
    }
}

extension SettingKind where Value == String? {
    /// Text that may be unset.
    package static func optionalText(_ placeholder: String) -> Self {
        let text = SettingKind<String>.text(placeholder)
        return Self(
            placeholder: placeholder, accepted: text.accepted,
            parse: { text.parse($0).map { .some($0) } }, show: { $0 ?? "none" })
    }
}

extension SettingKind where Value == Bool {
    package static var bool: Self {
        Self(
            placeholder: nil, accepted: "true or false",
            parse: { text in
                switch text.lowercased() {
                case "true", "yes", "on", "1": true
                case "false", "no", "off", "0": false
                default: nil
                }
            },
            show: { String($0) })
    }
}

extension SettingKind where Value == Int {
    package static func integer(_ range: ClosedRange<Int>) -> Self {
        Self(
            placeholder: "NUMBER", accepted: "a whole number from \(range.lowerBound) to \(range.upperBound)",
            parse: { Int($0).flatMap { range.contains($0) ? $0 : nil } }, show: { String($0) })
    }
}

extension SettingKind where Value == Int? {
    /// A number that may be unset.
    package static func optionalInteger(_ range: ClosedRange<Int>) -> Self {
        let integer = SettingKind<Int>.integer(range)
        return Self(
            placeholder: integer.placeholder, accepted: integer.accepted,
            parse: { integer.parse($0).map { .some($0) } }, show: { $0.map(integer.show) ?? "none" })
    }
}

extension SettingKind where Value == Duration {
    package static func duration(_ range: ClosedRange<Duration>) -> Self {
        let bounds = "from \(DurationText.text(range.lowerBound)) to \(DurationText.text(range.upperBound))"
        return Self(
            placeholder: "DURATION", accepted: "a duration \(bounds), as in 500ms, 15s, 10m, 2h or 7d",
            parse: { DurationText.duration($0).flatMap { range.contains($0) ? $0 : nil } },
            show: { DurationText.text($0) })
    }
}

extension SettingKind where Value == Duration? {
    /// A duration that may be unset.
    package static func optionalDuration(_ range: ClosedRange<Duration>) -> Self {
        let duration = SettingKind<Duration>.duration(range)
        return Self(
            placeholder: duration.placeholder, accepted: duration.accepted,
            parse: { duration.parse($0).map { .some($0) } }, show: { $0.map(duration.show) ?? "none" })
    }
}

extension SettingKind where Value == HostPort {
    package static var hostPort: Self {
        Self(
            placeholder: "HOST:PORT", accepted: "HOST:PORT, as in 127.0.0.1:7600 or [::1]:7600",
            parse: { HostPort($0) }, show: { $0.description })
    }
}

extension SettingKind where Value == JWTConfiguration.KeyLocation? {
    /// A file or an address that may be unset.
    package static var optionalKeyLocation: Self {
        let text = SettingKind<String>.text("FILE|URL")
        return Self(
            placeholder: text.placeholder, accepted: "a file or a URL, as in https://host/path",
            parse: { text.parse($0).flatMap { JWTConfiguration.KeyLocation($0) }.map { .some($0) } },
            show: { $0?.description ?? "none" })
    }
}

extension SettingKind where Value == SubjectAlternativeName.Pattern {
    /// The pattern of a certificate's names.
    static var subjectAlternativeName: Self {
        let text = SettingKind<String>.text("NAME", bytesMax: 2_048)
        return Self(
            placeholder: text.placeholder, accepted: "dns:NAME, uri:URI or email:ADDRESS",
            parse: { text.parse($0).flatMap { SubjectAlternativeName.Pattern($0) } }, show: { $0.description }
        )
    }
}

extension SettingKind
where Value: RawRepresentable & CaseIterable & Sendable, Value.RawValue == String {
    /// One of the cases. The case of letters does not matter.
    package static var choice: Self {
        let names = Value.allCases.map(\.rawValue)
        return Self(
            placeholder: names.joined(separator: "|"), accepted: "one of " + names.joined(separator: ", "),
            parse: { Value(rawValue: $0.lowercased()) }, show: { $0.rawValue })
    }
}

/// Durations as people write them: a whole number and one unit.
package enum DurationText {
    private static let units: [(name: String, milliseconds: Int64)] = [
        ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1),
    ]

    package static func duration(_ text: String) -> Duration? {
        let digits = text.prefix { ("0"..."9").contains($0) }
        guard let number = Int64(digits),
            let unit = units.first(where: { $0.name == text[digits.endIndex...] })
        else { return nil }
        let (milliseconds, isTooLong) = number.multipliedReportingOverflow(by: unit.milliseconds)
        return isTooLong ? nil : .milliseconds(milliseconds)
    }

    /// The duration in the largest unit that needs no fraction, cut to whole milliseconds.
    package static func text(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        let milliseconds = seconds * 1000 + attoseconds / 1_000_000_000_000_000
        guard milliseconds != 0 else { return "0s" }
        let unit = units.first { milliseconds.isMultiple(of: $0.milliseconds) } ?? ("ms", 1)
        return "\(milliseconds / unit.milliseconds)\(unit.name)"
    }
}
