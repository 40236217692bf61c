import JobModel

/// Reads settings. A flag takes precedence over the environment, the environment over the file, and the file over
/// the default.
package struct SettingsReader {
    /// The texts of flags by the names of their settings.
    let flags: [String: String]
    /// Whether the values of `flags` come from code, in whose errors a setting is named without the dashes of a
    /// flag.
    var flagsAreCode = false
    let environment: [String: String]
    var file: SettingsFile?
    let machine: Machine
    var problems: [String]

    /// Reads a setting. It never fails: a problem is added to `problems`, and the default is returned.
    mutating func value<Value>(_ setting: Setting<Value>) -> Value {
        let origin: String
        let text: String
        if let flag = flags[setting.name] {
            (origin, text) = (flagsAreCode ? setting.name : setting.flag, flag)
        } else if let variable = environment[setting.environmentName], !variable.isEmpty {
            (origin, text) = (setting.environmentName, variable)
        } else if let file, let entry = file.scalars[setting.fileKey] {
            (origin, text) = ("\(file.name):\(entry.line): \(setting.fileKey)", entry.text)
        } else {
            return setting.defaultValue(machine)
        }
        if let value = setting.kind.parse(text) { return value }
        let shown = setting.isSecret ? "the value" : "'\(text.cut(toBytes: 200))'"
        problems.append("\(origin): \(shown) is invalid: must be \(setting.kind.accepted)")
        return setting.defaultValue(machine)
    }
}

/// The values of settings, by their names.
struct SettingValues: Sendable, Equatable {
    // exact: the names are our own
    private var values: [String: any Hashable & Sendable] = [:]

    init(of settings: [any AnySetting], _ reader: inout SettingsReader) {
        for setting in settings { values[setting.name] = setting.read(&reader) }
    }

    static func == (left: Self, right: Self) -> Bool {
        left.values.mapValues { AnyHashable($0) } == right.values.mapValues { AnyHashable($0) }
    }

    subscript<Value>(_ setting: Setting<Value>) -> Value {
        guard let value = values[setting.name] as? Value else {
            preconditionFailure("\(setting.name) is not in the table that the values were read for")
        }
        return value
    }
}
