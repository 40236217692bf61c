/// Something that is wrong with the settings.
package struct SettingsError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Each names where it is, what is there and what is wanted. Never empty.
    package var problems: [String]

    package init(problems: [String]) {
        self.problems = problems
    }

    package var description: String { problems.joined(separator: "\n") }
}
