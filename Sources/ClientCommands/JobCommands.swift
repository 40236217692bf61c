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

    @Option(help: "A note for people, which becomes the message of the job's error.")
    var note: String?

    @OptionGroup var expected: ExpectedSequence

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func validate() throws {
        try expected.validate(for: jobs)
    }

    package func run() async throws {
        let note = note ?? ""
        let sequence = expected.expectSequence ?? 0
        let json = service.json
        try await forEachJob(jobs, service.target()) { service, id in
            let request = CancelRequest(jobID: "\(id)", note: ExactText(note), expectedSequence: sequence)
            try show(await service.call(JobServiceMethod.cancel, request), json: json)
        }
    }
}

package struct RetryCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "retry",
        abstract: "Return failed or cancelled jobs to the queue, with a new budget of attempts.")

    @Argument(help: ArgumentHelp(valueName: "job-id"), transform: JobID.init(written:))
    var jobs: [JobID]

    @OptionGroup var expected: ExpectedSequence

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func validate() throws {
        try expected.validate(for: jobs)
    }

    package func run() async throws {
        let sequence = expected.expectSequence ?? 0
        let json = service.json
        try await forEachJob(jobs, service.target()) { service, id in
            let request = RetryRequest(jobID: "\(id)", expectedSequence: sequence)
            try show(await service.call(JobServiceMethod.retry, request), json: json)
        }
    }
}

/// The condition under which a job is changed.
struct ExpectedSequence: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Change the job only if it has this sequence number (with one job).", valueName: "sequence"))
    var expectSequence: Int64?

    func validate(for jobs: [JobID]) throws {
        guard let expectSequence else { return }
        if expectSequence < 1 || jobs.count != 1 {
            throw ValidationError("--expect-sequence is a number from 1 on, and needs exactly one job id.")
        }
    }
}

/// Prints the job after a command has changed it, as JSON or as one line.
private func show(_ answer: Answer<JobResponse>, json: Bool) throws {
    if json { return try answer.writeJSON("job") }
    let job = answer.message.job
    try Terminal.write("\(job.id) \(WatchLine.text(job))\n")
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
        var answer: Answer<GetJobResponse>?
        try await withService(service.target()) { service in
            let found = try await service.getJob(job, includePayload: payload)
            if self.service.json { try found.writeJSON("job") }
            answer = found
        }
        guard let found = answer?.message.job else { return }
        if !service.json, resultTo != "-" {
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
