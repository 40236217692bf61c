package import JobModel

/// The settings of one queue. They can be given in the file only.
package struct QueueSettings: Sendable, Hashable {
    /// The number of jobs of one user that may run at once in this queue; nil: the server's default.
    package var userLimit: Int?

    package init(userLimit: Int?) {
        self.userLimit = userLimit
    }
}

/// A command that runs the jobs of one kind. It can be given in the file only.
package struct CommandSettings: Sendable, Hashable {
    package var kind: String
    /// The executable and its arguments. Never empty.
    package var command: [String]
    package var timeout: Duration
    /// The time after which the command gets SIGUSR1. Less than the timeout.
    package var softTimeout: Duration?
    package var onInterruption: Interruption
    package var workingDirectory: String?
    package var environment: [String: String]
    /// The names of the server's variables that the command inherits.
    package var environmentFrom: [String]
    /// The user and the group to run the command as, each a name or a number. A group needs a user. Without a
    /// user it runs as the server's, which is then not root; without a group, with the user's primary group.
    package var user: String?
    package var group: String?

    package init(
        kind: String, command: [String], timeout: Duration, softTimeout: Duration? = nil,
        onInterruption: Interruption = .retry, workingDirectory: String? = nil,
        environment: [String: String] = [:], environmentFrom: [String] = [], user: String? = nil,
        group: String? = nil
    ) {
        self.kind = kind
        self.command = command
        self.timeout = timeout
        self.softTimeout = softTimeout
        self.onInterruption = onInterruption
        self.workingDirectory = workingDirectory
        self.environment = environment
        self.environmentFrom = environmentFrom
        self.user = user
        self.group = group
    }
}
