/// Something that is wrong with the settings.
package struct SettingsError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Each names the origin, the value that is there and the values that are allowed. Never empty.
    package var problems: [String]

    package init(problems: [String]) {
        self.problems = problems
    }

    package var description: String { problems.joined(separator: "\n") }
}
