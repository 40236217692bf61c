// exact in this file: the environment and its names are the operator's.

/// The variables that a command gets, but for the facts of its job.
package enum CommandEnvironment {
    /// The variables that a program needs to find others, its user's files, the time and its language. Nothing else of the
    /// server's environment reaches a command unless its settings name it.
    private static let names: Set = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"]

    /// - Parameters:
    ///   - server: the server's own environment.
    ///   - from: further names of it that the command gets.
    ///   - own: variables that are set for this command; they override all others.
    ///   - user: the user that HOME, USER and LOGNAME are of; nil: the server's.
    package static func make(
        server: [String: String], from: [String] = [], own: [String: String] = [:], user: CommandUser? = nil
    ) -> [String: String] {
        var variables = server.filter { names.contains($0.key) || $0.key.hasPrefix("LC_") }
        if let user {
            variables["HOME"] = user.home
            variables["USER"] = user.name
            variables["LOGNAME"] = user.name
        }
        for name in from { variables[name] = server[name] }
        return variables.merging(own) { _, own in own }
    }
}
