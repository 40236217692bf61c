import JobModel

/// Reads settings: the flag wins over the environment, that over the file, and that over the default.
package struct SettingsReader {
    let flags: [String: String]
    let environment: [String: String]
    let file: SettingsFile?
    let machine: Machine
    var problems: [String]

    /// Never fails: what is wrong is added to the problems, and the default stands in for it.
    mutating func value<Value>(_ setting: Setting<Value>) -> Value {
        let origin: String
        let text: String
        if let flag = flags[setting.name] {
            (origin, text) = (setting.flag, flag)
        } else if let variable = environment[setting.environmentName], !variable.isEmpty {
            (origin, text) = (setting.environmentName, variable)
        } else if let file, let entry = file.scalars[setting.fileKey] {
            (origin, text) = ("\(file.name):\(entry.line): \(setting.fileKey)", entry.text)
        } else {
            return setting.defaultValue(machine)
        }
        if let value = setting.kind.parse(text) { return value }
        let shown = setting.isSecret ? "what it is set to" : "'\(text.cut(toBytes: 200))'"
        problems.append("\(origin): \(shown) is wrong: wants \(setting.kind.wants)")
        return setting.defaultValue(machine)
    }
}

/// The values of settings, by their names.
struct SettingValues: Sendable {
    // exact: the names are our own
    private var values: [String: any Sendable] = [:]

    init(of settings: [any AnySetting], _ reader: inout SettingsReader) {
        for setting in settings { values[setting.name] = setting.read(&reader) }
    }

    subscript<Value>(_ setting: Setting<Value>) -> Value {
        guard let value = values[setting.name] as? Value else {
            preconditionFailure("\(setting.name) is not in the table that the values were read for")
        }
        return value
    }
}
