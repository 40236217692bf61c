package import ArgumentParser
import JobModel
import SignalboxClient
import SignalboxProto
import Support

package struct ListCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List jobs that match every filter, newest first.")

    /// The size of a page. Jobs have up to 16 KiB each without payload and result, so a page stays far below the
    /// limit of a message.
    private static let pageSizeMax = 100

    @Option(help: "Only jobs of this user.", transform: String.init(notEmpty:))
    var user: String?

    @Option(help: "Only jobs in this queue.", transform: String.init(notEmpty:))
    var queue: String?

    @Option(help: "Only jobs of this kind; may be repeated.", transform: String.init(notEmpty:))
    var kind: [String] = []

    @Option(
        help: ArgumentHelp(
            "Only jobs in this state: pending, running, succeeded, failed or cancelled; may be repeated.",
            valueName: "state"), transform: JobModel.JobState.init(written:))
    var state: [JobModel.JobState] = []

    @Option(
        help: ArgumentHelp("Only jobs with this label; may be repeated.", valueName: "key=value"),
        transform: LabelArgument.init(written:))
    var label: [LabelArgument] = []

    @Option(
        help: ArgumentHelp("Only jobs created at or after this time.", valueName: "time"),
        transform: Timestamp.init(written:))
    var createdFrom: Timestamp?

    @Option(
        help: ArgumentHelp("Only jobs created before this time.", valueName: "time"),
        transform: Timestamp.init(written:))
    var createdTo: Timestamp?

    @Option(help: ArgumentHelp("The maximum number of jobs; 0: all.", valueName: "count"))
    var limit = 50

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func validate() throws {
        if limit < 0 { throw ValidationError("--limit must not be negative.") }
    }

    package func run() async throws {
        let json = service.json
        try await withService(service.target()) { service in
            var table = Self.table
            var left = limit == 0 ? Int.max : limit
            var hasMore = true
            try await service.pages(
                JobServiceMethod.listJobs, ListJobsResponse.self, next: \.nextPageToken,
                request: {
                    ListJobsRequest(pageSize: min(left, Self.pageSizeMax), pageToken: $0, filter: filter)
                },
                show: { page in
                    let jobs = page.message.jobs
                    // Clamped, because a server may return more jobs than were requested.
                    left -= min(left, jobs.count)
                    hasMore = !page.message.nextPageToken.isEmpty
                    if json {
                        try page.writeJSON("jobs")
                    } else if !jobs.isEmpty {
                        try Terminal.write(table.text(jobs.map(Self.row)))
                    }
                    return left > 0
                })
            if hasMore, !json { try complain("there may be more: --limit \(limit) is reached") }
        }
    }

    private var filter: JobFilterMessage {
        JobFilterMessage(
            userID: ExactText(user ?? ""), queue: ExactText(queue ?? ""), kinds: kind.map { ExactText($0) },
            states: Set(state), labels: label.map { (ExactText($0.key), ExactText($0.value)) },
            createdFrom: createdFrom, createdTo: createdTo)
    }

    static let table = Table([
        .init("ID"), .init("KIND"), .init("USER"), .init("QUEUE"), .init("STATE"),
        .init("ATTEMPTS", alignsRight: true), .init("CREATED"), .init("DETAILS", max: 80),
    ])

    static func row(_ job: JobRecord) -> [String] {
        let details: String =
            switch job.state {
            case .running: job.progress.map(WatchLine.text) ?? ""
            case .pending, .failed, .cancelled: job.error?.text ?? ""
            case .succeeded: ""
            }
        return [
            job.id.description, job.spec.kind, job.spec.userID.text, job.spec.queue, job.state.word,
            "\(job.attemptsUsed)/\(job.spec.maxAttempts)", job.createdAt.text, details,
        ]
    }
}
