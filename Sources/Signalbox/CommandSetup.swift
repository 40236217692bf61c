import Foundation
import Glibc
import JobModel
import JobEngine
import Settings

/// Makes runners of the commands in the settings, and finds problems with their users at the start.
enum CommandSetup {
    /// Reads the system's user database, which may block. Throws a `SettingsError` that names each command whose
    /// user or group is unknown or cannot be used.
    ///
    /// - Parameter environment: the server's environment.
    static func runners(
        _ commands: [CommandDefinition], environment: [String: String]
    ) throws(SettingsError) -> [CommandRunner] {
        guard let setpriv = find("setpriv", path: environment["PATH"] ?? "") else {
            throw SettingsError(problems: [
                "commands: setpriv, which starts them, is not in PATH: install util-linux"
            ])
        }
        var problems: [String] = []
        var runners: [CommandRunner] = []
        for command in commands {
            do throws(CommandUserError) {
                runners.append(
                    CommandRunner(
                        command, serverEnvironment: environment, user: try user(of: command), setpriv: setpriv
                    ))
            } catch {
                problems.append("commands: '\(command.definition.kind)': \(error)")
            }
        }
        guard problems.isEmpty else { throw SettingsError(problems: problems) }
        return runners
    }

    private static func user(of command: CommandDefinition) throws(CommandUserError) -> CommandUser? {
        guard let name = command.user else { return nil }
        let user = try CommandUser.lookUp(user: name, group: command.group)
        guard geteuid() == 0 || user.isCurrentUser else {
            throw CommandUserError(
                "it cannot run as user \(user.userID) and group \(user.groupID): only a server that runs as root can "
                    + "give a command another user or group than its own (\(geteuid()), \(getegid()))")
        }
        return user
    }

    /// The path of a program, from PATH or the usual folders.
    private static func find(_ program: String, path: String) -> String? {
        (path.split(separator: ":").filter { $0.hasPrefix("/") } + ["/usr/bin", "/bin"])
            .map { "\($0)/\(program)" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }
}
