import JobModel

/// Reads flags of the form `--name value` and `--name=value`. A switch has no value, or is written as
/// `--name=false`.
///
/// The client commands use swift-argument-parser, and `ClientOptions` names each of their settings once more for it.
/// The server's settings cannot: that library wants a stored property with its own wrapper for each flag, so every
/// setting would be declared twice. It also stops at the first problem, where a server's start reports those of flags,
/// environment and file together, and its errors quote the value of an unknown flag, which may be a password. The price
/// is that completion scripts do not know the flags of `serve`.
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
                // The message quotes no value, because it may be a secret whose flag was misspelt.
                problems.append(
                    argument.hasPrefix("-")
                        ? "unknown argument '\(flag.cut(toBytes: 200))'"
                            + Suggestion.text(for: flag, among: byFlag.keys)
                        : "argument \(arguments.count - rest.count) is not a setting: settings are given as --name VALUE"
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
                problems.append("\(flag): the value is missing")
                continue
            }
            if flags.updateValue(value, forKey: setting.name) != nil {
                problems.append("\(flag): is given twice")
            }
        }
        return flags
    }
}
