/// The help about settings.
package enum SettingsHelp {
    private static let indent = "        "

    /// The help for every setting, with its default and its environment variable, in lines of up to 100
    /// characters.
    package static func text(_ settings: [any AnySetting]) -> String {
        settings.map { setting in
            let head = "  \(setting.flag)" + (setting.placeholder.map { " \($0)" } ?? "")
            let notes = "[default: \(setting.defaultText); env: \(setting.environmentName)]"
            return [head, wrapped(setting.help, indent: indent), wrapped(notes, indent: indent)]
                .joined(separator: "\n")
        }.joined(separator: "\n")
    }

    /// The help for the parts of the file that are not single settings.
    static func text(_: FileSection.Type) -> String {
        FileSection.allCases.map { section in
            "  \(section.rawValue): \(section.form)\n" + wrapped(section.help, indent: indent)
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
