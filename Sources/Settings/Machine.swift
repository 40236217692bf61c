import FoundationEssentials
import Glibc

/// The facts about this machine and its user from which some defaults are made.
package struct Machine: Sendable {
    package var cores: Int
    package var hostName: String
    package var processID: Int32
    package var isRoot: Bool
    /// `STATE_DIRECTORY`, in which systemd passes the directories of a unit (systemd.exec(5)); empty if it is unset.
    package var unitStateDirectories: String
    /// `XDG_STATE_HOME` and `HOME`; empty if they are unset.
    package var stateHome: String
    package var home: String

    package init(
        cores: Int, hostName: String, processID: Int32, isRoot: Bool, unitStateDirectories: String = "",
        stateHome: String, home: String
    ) {
        self.cores = cores
        self.hostName = hostName
        self.processID = processID
        self.isRoot = isRoot
        self.unitStateDirectories = unitStateDirectories
        self.stateHome = stateHome
        self.home = home
    }

    /// The machine that this process runs on.
    package static var current: Machine {
        let process = ProcessInfo.processInfo
        return Machine(
            cores: process.activeProcessorCount, hostName: process.hostName,
            processID: process.processIdentifier, isRoot: geteuid() == 0,
            unitStateDirectories: process.environment["STATE_DIRECTORY"] ?? "",
            stateHome: process.environment["XDG_STATE_HOME"] ?? "", home: process.environment["HOME"] ?? "")
    }

    /// The default state directory: the first one that systemd passes; else a system folder for root; else the one of the
    /// XDG Base Directory Specification.
    var stateDirectory: String {
        // systemd separates several directories by colons.
        if let first = unitStateDirectories.split(separator: ":").first { return String(first) }
        if isRoot { return "/var/lib/signalbox" }
        // The specification says that a relative path is invalid and to be ignored.
        if stateHome.hasPrefix("/") { return stateHome + "/signalbox" }
        return (home.isEmpty ? "." : home) + "/.local/state/signalbox"
    }
}
