import CProcess
import Foundation
import Glibc

/// Protects this process's secrets, such as the database's password, from the processes that it starts and from
/// other processes of its user.
enum ProcessSecrets {
    /// The variables with secrets that a server reads once, or should not have been given.
    private static let variables = ["SIGNALBOX_DATABASE_URL", "SIGNALBOX_TOKEN", "PGPASSWORD"]

    /// Makes the process not dumpable. From then on, only root can read its files in /proc that reveal secrets
    /// (`environ`, `mem`, `fd`), and only root can trace it. It also writes no core file.
    ///
    /// A program that it executes is dumpable again, so commands are not affected.
    static func forbidReading() throws {
        guard process_forbid_dumps() == 0 else {
            throw ProcessSecretsError(reason: String(cString: strerror(errno)))
        }
    }

    /// Removes the secret variables from the environment, so that programs which inherit it do not get them. They
    /// remain in the block of memory that /proc/PID/environ shows, which `forbidReading` has closed.
    ///
    /// It must be called before there are threads that may read the environment.
    static func forgetVariables() {
        for name in variables { unsetenv(name) }
    }
}

struct ProcessSecretsError: Error, CustomStringConvertible {
    let reason: String

    var description: String {
        "the process cannot be protected from reads by other processes of its user (PR_SET_DUMPABLE): \(reason)"
    }
}
