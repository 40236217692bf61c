package import ArgumentParser
import JobModel
import SignalboxClient
import SignalboxProto
import Support

package struct CancelCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "cancel", abstract: "Cancel jobs.",
        discussion: """
            A pending job is cancelled at once. The handler of a running job is asked to stop within a grace \
            time: 'watch' shows when it has ended. A final job is not changed.
            """)

    @Argument(help: ArgumentHelp(valueName: "job-id"), transform: JobID.init(written:))
    var jobs: [JobID]

    @Option(help: "The reason, which is kept in the job's error.")
    var reason: String?

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func run() async throws {
        let reason = reason ?? ""
        let json = service.json
        try await forEachJob(jobs, service.target()) { service, id in
            let request = CancelRequest(jobID: "\(id)", note: ExactText(reason))
            let response = try await service.call(JobServiceMethod.cancel, request, JobResponse.self)
            try show(response.job, json: json)
        }
    }
}

package struct RetryCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "retry",
        abstract: "Return failed or cancelled jobs to the queue, with a new budget of attempts.")

    @Argument(help: ArgumentHelp(valueName: "job-id"), transform: JobID.init(written:))
    var jobs: [JobID]

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func run() async throws {
        let json = service.json
        try await forEachJob(jobs, service.target()) { service, id in
            let request = RetryRequest(jobID: "\(id)")
            let response = try await service.call(JobServiceMethod.retry, request, JobResponse.self)
            try show(response.job, json: json)
        }
    }
}

/// Prints the job after a command has changed it, as JSON or as one line.
private func show(_ job: JobRecord, json: Bool) throws {
    if json {
        try JSONLine.write(JobView(job))
    } else {
        try Terminal.write("\(job.id) \(WatchLine.text(job))\n")
    }
}

package struct GetCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "get", abstract: "Show a job with its attempts, log, progress and result.")

    @Argument(help: ArgumentHelp(valueName: "job-id"), transform: JobID.init(written:))
    var job: JobID

    @Flag(help: "Also show the payload.")
    var payload = false

    @Option(
        help: ArgumentHelp(
            "Write the bytes of the result to this file; - prints only them.", valueName: "file"))
    var resultTo: String?

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func validate() throws {
        if resultTo == "-", service.json || payload {
            throw ValidationError("--result-to - excludes --json and --payload.")
        }
    }

    package func run() async throws {
        var found: JobRecord?
        try await withService(service.target()) { service in
            found = try await service.getJob(job, includePayload: payload)
        }
        guard let found else { return }
        if service.json {
            try JSONLine.write(JobView(found, history: true, payload: payload))
        } else if resultTo != "-" {
            let lines = JobText.lines(found, includesPayload: payload)
            try Terminal.write(lines.joined(separator: "\n") + "\n")
        }
        guard let resultTo else { return }
        guard let result = found.result else {
            try complain("the job has no result: it is \(found.state.word)")
            throw ExitCode.notFound
        }
        do {
            try await Files.write(result.data, to: resultTo)
        } catch let error as FileError {
            throw ValidationError("The result: \(error).")
        }
    }
}
