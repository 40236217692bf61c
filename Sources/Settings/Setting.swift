import JobModel

/// One setting. It is declared here and nowhere else: its flag, its environment name, its key in the
/// file, what it accepts, its default and its help all come from this value.
package struct Setting<Value: Sendable>: AnySetting {
    /// As in `user-limit`.
    package let name: String
    package let kind: SettingKind<Value>
    package let help: String
    /// The default as the help shows it.
    package let defaultText: String
    let defaultValue: @Sendable (Machine) -> Value
    /// What was given is not shown, not even when it is wrong: it may have a password.
    let isSecret: Bool

    init(
        _ name: String, _ kind: SettingKind<Value>, default value: Value, _ help: String,
        isSecret: Bool = false
    ) {
        self.init(
            name, kind, default: { _ in value }, shownAs: kind.show(value), help, isSecret: isSecret)
    }

    /// With a default that depends on the machine.
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
}

/// What does not depend on the type of a setting's value.
package protocol AnySetting: Sendable {
    var name: String { get }
    /// Nil: a switch.
    var placeholder: String? { get }
    var help: String { get }
    var defaultText: String { get }
}

extension AnySetting {
    /// As in `--user-limit`.
    package var flag: String { "--" + name }
    /// As in `SIGNALBOX_USER_LIMIT`.
    package var environmentName: String {
        "SIGNALBOX_" + name.uppercased().replacing("-", with: "_")
    }
    /// As in `user_limit`.
    package var fileKey: String { name.replacing("-", with: "_") }
}

/// Something that is wrong with the settings.
package struct SettingsError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Each names where it is, what is there and what is wanted. Never empty.
    package var problems: [String]

    package init(problems: [String]) {
        self.problems = problems
    }

    package var description: String { problems.joined(separator: "\n") }
}

/// Reads settings: the flag wins over the environment, that over the file, and that over the default.
struct SettingsReader {
    let flags: [String: String]
    let environment: [String: String]
    let file: SettingsFile?
    let machine: Machine
    var problems: [String]

    /// Never fails: what is wrong is added to the problems, and the default stands in for it.
    mutating func value<Value>(_ setting: Setting<Value>) -> Value {
        let place: String
        let text: String
        if let flag = flags[setting.name] {
            (place, text) = (setting.flag, flag)
        } else if let variable = environment[setting.environmentName], !variable.isEmpty {
            (place, text) = (setting.environmentName, variable)
        } else if let file, let entry = file.scalars[setting.fileKey] {
            (place, text) = ("\(file.name):\(entry.line): \(setting.fileKey)", entry.text)
        } else {
            return setting.defaultValue(machine)
        }
        if let value = setting.kind.parse(text) { return value }
        let shown = setting.isSecret ? "what it is set to" : "'\(text.cut(toBytes: 200))'"
        problems.append("\(place): \(shown) is wrong: wants \(setting.kind.wants)")
        return setting.defaultValue(machine)
    }
}

/// Flags of the form `--name value` and `--name=value`; a switch stands alone, or is `--name=false`.
enum FlagReader {
    static func read(
        _ arguments: [String], for settings: [any AnySetting], problems: inout [String]
    ) -> [String: String] {
        let byFlag = Dictionary(settings.map { ($0.flag, $0) }, uniquingKeysWith: { first, _ in first })
        var flags: [String: String] = [:]
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let flag = String(parts.first ?? "")
            guard argument.hasPrefix("--"), let setting = byFlag[flag] else {
                // Nothing of a value, which may be a secret whose flag was misspelt.
                problems.append(
                    argument.hasPrefix("-")
                        ? "unknown argument '\(flag.cut(toBytes: 200))'"
                            + Suggestion.text(for: flag, among: byFlag.keys)
                        : "argument \(arguments.count - rest.count) is no setting: they are given as --name VALUE"
                )
                continue
            }
            let value: String
            if parts.count == 2 {
                value = String(parts[1])
            } else if setting.placeholder == nil {
                value = "true"
            } else if let next = rest.popFirst() {
                value = next
            } else {
                problems.append("\(flag): its value is missing")
                continue
            }
            if flags.updateValue(value, forKey: setting.name) != nil {
                problems.append("\(flag): is given twice")
            }
        }
        return flags
    }
}

/// The nearest known name, for one that is unknown.
enum Suggestion {
    /// As in ` (did you mean 'grace'?)`, or nothing.
    static func text(for name: String, among known: some Sequence<String>) -> String {
        let nearest = known.map { ($0, distance(name, $0)) }.min { ($0.1, $0.0) < ($1.1, $1.0) }
        guard let (word, distance) = nearest, distance <= max(1, name.count / 3) else { return "" }
        return " (did you mean '\(word)'?)"
    }

    /// How many letters must be put in, taken out or changed (Levenshtein).
    private static func distance(_ left: String, _ right: String) -> Int {
        let left = Array(left.prefix(64))
        let right = Array(right)
        var row = Array(0...right.count)
        for (i, letter) in left.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, other) in right.enumerated() {
                let changed = diagonal + (letter == other ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(changed, row[j] + 1, diagonal + 1)
            }
        }
        return row[right.count]
    }
}

/// The help about settings.
package enum SettingsHelp {
    private static let indent = "        "

    /// Every setting with its default and its environment name; lines of up to 100 characters.
    package static func text(_ settings: [any AnySetting]) -> String {
        settings.map { setting in
            let head = "  \(setting.flag)" + (setting.placeholder.map { " \($0)" } ?? "")
            let notes = "[default: \(setting.defaultText); env: \(setting.environmentName)]"
            return [head, wrapped(setting.help, indent: indent), wrapped(notes, indent: indent)]
                .joined(separator: "\n")
        }.joined(separator: "\n")
    }

    private static func wrapped(_ text: String, indent: String) -> String {
        var lines: [String] = []
        var line = indent
        for word in text.split(separator: " ") {
            if line.count + word.count + 1 > 100 {
                lines.append(line)
                line = indent
            }
            line += (line == indent ? "" : " ") + word
        }
        return (lines + [line]).joined(separator: "\n")
    }
}
