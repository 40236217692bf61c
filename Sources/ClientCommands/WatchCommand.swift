package import ArgumentParser
import FoundationEssentials
import JobModel
import Settings
import SignalboxClient

package struct WatchCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "watch", abstract: "Follow jobs: progress bars on a terminal, lines otherwise.",
        discussion: """
            Ends when all named jobs are final, with exit code 0 if all have succeeded and 1 otherwise. A watch \
            of a user or queue continues until it is interrupted. When the connection is lost, the watch \
            reconnects and resumes; it gives up after five minutes without a message from the server.
            """)

    @Argument(
        help: ArgumentHelp("Up to 1,000 jobs.", valueName: "job-id"), transform: JobID.init(written:))
    var jobs: [JobID] = []

    @Option(help: "Every job of this user.", transform: String.init(notEmpty:))
    var user: String?

    @Option(help: "Every job in this queue.", transform: String.init(notEmpty:))
    var queue: String?

    @Option(
        help: ArgumentHelp(
            "Only the events after this sequence number (with one job); 0 begins with the present state.",
            valueName: "sequence"))
    var after: Int64 = 0

    @Flag(help: "Also print the lines that handlers log (with named jobs).")
    var log = false

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func validate() throws {
        if jobs.isEmpty, user == nil, queue == nil {
            throw ValidationError("Give job ids, --user or --queue.")
        }
        if !jobs.isEmpty, user != nil || queue != nil {
            throw ValidationError("Job ids exclude --user and --queue.")
        }
        if jobs.count > JobLimits.watchedJobsMax {
            throw ValidationError("At most \(JobLimits.watchedJobsMax) jobs can be watched at once.")
        }
        if after < 0 || (after > 0 && jobs.count != 1) {
            throw ValidationError("--after is a number from 0 on, and needs exactly one job id.")
        }
        if log, jobs.isEmpty { throw ValidationError("--log needs job ids.") }
    }

    package func run() async throws {
        let subject: WatchSession.Subject =
            jobs.isEmpty ? .all(userID: user ?? "", queue: queue ?? "") : .jobs(distinct(jobs))
        try await Self.follow(
            WatchSession(subject, after: after, includesLog: log), service.target(), json: service.json)
    }

    private func distinct(_ ids: [JobID]) -> [JobID] {
        var seen: Set<JobID> = []
        return ids.filter { seen.insert($0).inserted }
    }

    static func follow(
        _ session: WatchSession, _ target: ClientSettings, json: Bool, wasReached: Bool = false
    ) async throws {
        let style: WatchPrinter.Style = json ? .json : Terminal.isInteractive ? .bars : .lines
        let board = ProgressBoard(glyphs: glyphs(environment: ProcessInfo.processInfo.environment))
        try await explaining {
            var watcher = Watcher(
                target: target, session: session, printer: WatchPrinter(style, board: board),
                wasReached: wasReached)
            try await watcher.run()
        }
    }

    /// Block characters if the locale says that the terminal can show them (POSIX, section 8.2), else ASCII.
    static func glyphs(environment: [String: String]) -> ProgressBar.Glyphs {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].lazy.compactMap { environment[$0] }.first { !$0.isEmpty }
        let name = (locale ?? "").lowercased()
        return name.contains("utf-8") || name.contains("utf8") ? .blocks : .ascii
    }
}
