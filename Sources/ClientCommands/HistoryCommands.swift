package import ArgumentParser
import JobModel
import SignalboxProto
import Support

/// The number of entries of a page, which is the most that a server gives.
private let pageSize = 500

package struct AttemptsCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "attempts", abstract: "List all attempts of a job, oldest first.")

    @Argument(help: ArgumentHelp(valueName: "job-id"), transform: JobID.init(written:))
    var job: JobID

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func run() async throws {
        let json = service.json
        try await withService(service.target()) { service in
            try await service.pages(
                JobServiceMethod.listAttempts, ListAttemptsResponse.self, next: \.nextPageToken,
                request: { ListAttemptsRequest(jobID: "\(job)", pageSize: pageSize, pageToken: $0) },
                show: { page in
                    if json {
                        try page.writeJSON("attempts")
                    } else {
                        for attempt in page.message.attempts {
                            try Terminal.write(JobText.text(attempt).printable + "\n")
                        }
                    }
                    return true
                })
        }
    }
}

package struct LogCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Print the log lines of a job that are kept, oldest first.")

    @Argument(help: ArgumentHelp(valueName: "job-id"), transform: JobID.init(written:))
    var job: JobID

    @Option(help: ArgumentHelp("Only lines after the one with this number.", valueName: "number"))
    var after: Int64 = 0

    @Option(
        help: ArgumentHelp(
            "Only lines of this level or a higher one: debug, info, warning or error.", valueName: "level"),
        transform: LogLine.Level.init(written:))
    var level: LogLine.Level?

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func validate() throws {
        if after < 0 { throw ValidationError("--after must not be negative.") }
    }

    package func run() async throws {
        let json = service.json
        try await withService(service.target()) { service in
            try await service.pages(
                JobServiceMethod.listLogLines, ListLogLinesResponse.self, next: \.nextPageToken,
                request: {
                    ListLogLinesRequest(
                        jobID: "\(job)", afterLine: after, pageSize: pageSize, pageToken: $0, minLevel: level)
                },
                show: { page in
                    if json {
                        try page.writeJSON("lines")
                    } else {
                        for line in page.message.lines {
                            try Terminal.write(JobText.text(line).printable + "\n")
                        }
                    }
                    return true
                })
        }
    }
}
