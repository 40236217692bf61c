// exact in this file: commands and environments are the operator's.

/// A command that runs the jobs of one kind, as the operator declares it.
package struct CommandDefinition: Sendable, Hashable {
    /// With a soft timeout the command must handle SIGUSR1, whose default is to die.
    package var definition: KindDefinition
    /// The executable and its arguments, as they are: no shell reads them. A name without `/` is looked
    /// up in PATH; a relative path counts from the working directory.
    package var command: [String]
    /// Nil: the server's own.
    package var workingDirectory: String?
    /// Variables that are set for the command; they override all others.
    package var environment: [String: String]
    /// The names of the server's variables that the command inherits.
    package var environmentFrom: [String]
    /// The user and the group to run the command as, each a name or a number. A group needs a user. Without a
    /// user it runs as the server's, which is then not root; without a group, with the user's primary group.
    package var user: String?
    package var group: String?

    package init(
        _ definition: KindDefinition, command: [String], workingDirectory: String? = nil,
        environment: [String: String] = [:], environmentFrom: [String] = [], user: String? = nil,
        group: String? = nil
    ) {
        self.definition = definition
        self.command = command
        self.workingDirectory = workingDirectory
        self.environment = environment
        self.environmentFrom = environmentFrom
        self.user = user
        self.group = group
    }
}
