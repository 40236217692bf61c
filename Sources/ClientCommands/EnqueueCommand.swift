package import ArgumentParser
import FoundationEssentials
import JobModel
import SignalboxClient
import SignalboxProto
import Support

package struct EnqueueCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "enqueue", abstract: "Enqueue a job, and print its id.",
        discussion: """
            The id is printed once the job is committed. The same --id or --key with the same content gives \
            the first job's id again. Durations are written as in 500ms, 5s, 10m, 2h or 7d.
            """)

    @Argument(
        help: "The kind of the job, which selects its handler.", transform: String.init(notEmpty:))
    var kind: String

    @Option(
        help: "The user on whose behalf the job runs. [default: $USER]", transform: String.init(notEmpty:))
    var user: String?

    @Option(help: "The job's queue. [default: default]", transform: String.init(notEmpty:))
    var queue: String?

    @OptionGroup(title: "Payload")
    var payload: PayloadOptions

    @Option(
        help: ArgumentHelp("The job's id, a UUID. [default: a new one]", valueName: "uuid"),
        transform: String.init(notEmpty:))
    var id: String?

    @Option(help: "Idempotency key: unique for each user.", transform: String.init(notEmpty:))
    var key: String?

    @Option(
        parsing: .unconditional,
        help: "-100 to 100; higher first, within a user and queue. [default: 0]")
    var priority: Int?

    @Option(
        help: ArgumentHelp("The delay before the job may start.", valueName: "duration"),
        transform: Duration.init(written:))
    var delay: Duration?

    @Option(
        help: ArgumentHelp(
            "The time from which the job may start, as in 2030-01-31T09:30:00Z.", valueName: "time"),
        transform: Timestamp.init(written:))
    var at: Timestamp?

    @Option(help: "The maximum number of attempts, 1 to 100. [default: 3]")
    var maxAttempts: Int?

    @OptionGroup(title: "Retries")
    var retry: RetryOptions

    @Option(
        help: ArgumentHelp("The time limit of one attempt. [default: the kind's own]", valueName: "duration"),
        transform: Duration.init(written:))
    var jobTimeout: Duration?

    @Option(
        help: ArgumentHelp(
            "The time after which an attempt is asked to finish. [default: the kind's own]",
            valueName: "duration"),
        transform: Duration.init(written:))
    var softTimeout: Duration?

    @Option(
        help: ArgumentHelp("A label to find the job by; may be repeated.", valueName: "key=value"),
        transform: LabelArgument.init(written:))
    var label: [LabelArgument] = []

    @Flag(help: "Watch the job, as 'watch' does, until it is final.")
    var watch = false

    @Flag(help: "With --watch: also print the lines that the handler logs.")
    var log = false

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func validate() throws {
        if delay != nil, at != nil { throw ValidationError("--delay and --at exclude each other.") }
        if log, !watch { throw ValidationError("--log needs --watch.") }
        // In the message 0 stands for the default, so a 0 here would not have the meaning that its writer
        // expects.
        if let maxAttempts, !JobLimits.attemptsRange.contains(maxAttempts) {
            throw ValidationError("--max-attempts is a number from 1 to 100.")
        }
    }

    package func run() async throws {
        let target = try service.target()
        let draft = try await draft(environment: ProcessInfo.processInfo.environment)
        var enqueued: JobID?
        try await withService(target) { service in
            let answer = try await service.call(
                JobServiceMethod.enqueue, EnqueueRequest(job: draft), EnqueueResponse.self)
            let response = answer.message
            enqueued = response.job.id
            if self.service.json {
                try answer.writeJSON()
            } else {
                try Terminal.write("\(response.job.id)\n")
                if !response.created { try complain("the job existed already") }
            }
        }
        guard watch, let enqueued else { return }
        try await WatchCommand.follow(
            WatchSession(.jobs([enqueued]), includesLog: log), target, json: self.service.json,
            wasReached: true)
    }

    func draft(environment: [String: String]) async throws -> JobSpecDraft {
        guard let user = user ?? environment["USER"], !user.isEmpty else {
            throw ValidationError("Give --user, because the variable USER is not set.")
        }
        var draft = JobSpecDraft()
        draft.kind = ExactText(kind)
        draft.userID = ExactText(user)
        draft.queue = ExactText(queue ?? "")
        draft.payload = try await payload.read()
        draft.contentType = ExactText(payload.contentType ?? "")
        draft.jobID = ExactText(id ?? "")
        draft.idempotencyKey = ExactText(key ?? "")
        draft.priority = priority
        draft.delay = delay
        draft.runAt = at
        draft.maxAttempts = maxAttempts ?? 0
        draft.retryInitialDelay = retry.initial
        draft.retryFactor = retry.factor
        draft.retryMaxDelay = retry.max
        draft.retryJitter = retry.jitter
        draft.timeout = jobTimeout
        draft.softTimeout = softTimeout
        draft.labels = label.map { (ExactText($0.key), ExactText($0.value)) }
        return draft
    }
}

/// The options for the payload.
struct PayloadOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The payload, or - to read it from standard input. [default: empty]", valueName: "json")
    )
    var payload: String?

    @Option(help: ArgumentHelp("A file with the payload, or - for standard input.", valueName: "file"))
    var payloadFile: String?

    @Option(
        help: ArgumentHelp("The media type of the payload. [default: application/json]", valueName: "type"),
        transform: String.init(notEmpty:))
    var contentType: String?

    func validate() throws {
        if payload != nil, payloadFile != nil {
            throw ValidationError("--payload and --payload-file exclude each other.")
        }
    }

    /// Reads the payload, of at most 1 MiB.
    func read() async throws -> [UInt8] {
        let file = payload == "-" ? "-" : payloadFile
        guard let file else { return Array((payload ?? "").utf8) }
        do {
            return try await Files.read(file, bytesMax: JobLimits.payloadBytesMax)
        } catch let error as FileError {
            throw ValidationError("The payload: \(error).")
        }
    }
}

/// The options for the delays between attempts.
struct RetryOptions: ParsableArguments {
    @Option(
        name: .customLong("retry-initial"),
        help: ArgumentHelp("Delay after the first failure. [default: 5s]", valueName: "duration"),
        transform: Duration.init(written:))
    var initial: Duration?

    @Option(
        name: .customLong("retry-factor"),
        help: "The factor from each delay to the next, 1 to 100. [default: 2]")
    var factor: Double?

    @Option(
        name: .customLong("retry-max"),
        help: ArgumentHelp("The longest delay. [default: 1h]", valueName: "duration"),
        transform: Duration.init(written:))
    var max: Duration?

    @Option(
        name: .customLong("retry-jitter"),
        help: "The share of a delay by which it varies at random, 0 to 1. [default: 0]")
    var jitter: Double?

    func validate() throws {
        if let factor, !JobLimits.factorRange.contains(factor) {
            throw ValidationError("--retry-factor is a number from 1 to 100.")
        }
        if let jitter, !(0...1).contains(jitter) {
            throw ValidationError("--retry-jitter is a number from 0 to 1.")
        }
    }
}
