/// A problem with the settings.
package struct SettingsError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The problems. Each names the origin, the value and the allowed values. Never empty.
    package var problems: [String]

    package init(problems: [String]) {
        self.problems = problems
    }

    package var description: String { problems.joined(separator: "\n") }
}
