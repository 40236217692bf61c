/// The declaration of one setting. Its flag, environment variable, key in the file, accepted values, default and
/// help all follow from it.
package struct Setting<Value: Hashable & Sendable>: AnySetting {
    /// The name, for example `user-limit`.
    package let name: String
    package let kind: SettingKind<Value>
    package let help: String
    /// The default as the help shows it.
    package let defaultText: String
    let defaultValue: @Sendable (Machine) -> Value
    /// Whether the value may contain a password. It is never shown, not even in an error.
    let isSecret: Bool

    init(
        _ name: String, _ kind: SettingKind<Value>, default value: Value, _ help: String,
        isSecret: Bool = false
    ) {
        self.init(
            name, kind, default: { _ in value }, shownAs: kind.show(value), help, isSecret: isSecret)
    }

    /// A setting with a default that depends on the machine.
    init(
        _ name: String, _ kind: SettingKind<Value>, default value: @escaping @Sendable (Machine) -> Value,
        shownAs defaultText: String, _ help: String, isSecret: Bool = false
    ) {
        self.name = name
        self.kind = kind
        self.help = help
        self.defaultText = defaultText
        self.defaultValue = value
        self.isSecret = isSecret
    }

    package var placeholder: String? { kind.placeholder }

    package func read(_ reader: inout SettingsReader) -> any Hashable & Sendable { reader.value(self) }
}

/// A setting without the type of its value.
package protocol AnySetting: Sendable {
    var name: String { get }
    /// The placeholder of the value in the help; nil for a switch.
    var placeholder: String? { get }
    var help: String { get }
    var defaultText: String { get }
    func read(_ reader: inout SettingsReader) -> any Hashable & Sendable
}

extension AnySetting {
    /// The flag, for example `--user-limit`.
    package var flag: String { "--" + name }
    /// The environment variable, for example `SIGNALBOX_USER_LIMIT`.
    package var environmentName: String {
        "SIGNALBOX_" + name.uppercased().replacing("-", with: "_")
    }
    /// The key in the file, for example `user_limit`.
    package var fileKey: String { name.replacing("-", with: "_") }
}

/// A struct whose members are settings.
protocol SettingsTable: Sendable {}

extension SettingsTable {
    /// The settings in the order of their declaration.
    var all: [any AnySetting] { Mirror(reflecting: self).children.compactMap { $0.value as? any AnySetting } }
}
