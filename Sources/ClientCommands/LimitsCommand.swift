package import ArgumentParser
import JobModel
import SignalboxClient
import SignalboxProto
import Support

package struct LimitsCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "limits",
        abstract: "Show and set how many jobs of one user in one queue may run at once.",
        subcommands: [Get.self, List.self, Set.self])

    package init() {}

    package struct Get: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(
            abstract: "Show the limit that applies to a user.")

        @Option(help: "The user.", transform: String.init(notEmpty:))
        var user: String

        @Option(help: "The queue. [default: default]", transform: String.init(notEmpty:))
        var queue: String?

        @OptionGroup(title: "Server")
        var service: ServiceOptions

        package init() {}

        package func run() async throws {
            let json = service.json
            try await withService(service.target()) {
                let request = GetUserLimitRequest(userID: ExactText(user), queue: ExactText(queue ?? ""))
                let answer = try await $0.call(
                    AdminServiceMethod.getUserLimit, request, UserLimitResponse.self)
                try LimitsCommand.show(answer, json: json)
            }
        }
    }

    package struct List: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(
            abstract: "List the limits that were set for users.")

        @Option(help: "Only limits of this user.", transform: String.init(notEmpty:))
        var user: String?

        @Option(help: "Only limits in this queue.", transform: String.init(notEmpty:))
        var queue: String?

        @OptionGroup(title: "Server")
        var service: ServiceOptions

        package init() {}

        package func run() async throws {
            let json = service.json
            try await withService(service.target()) { service in
                var table = Self.table
                try await service.pages(
                    AdminServiceMethod.listUserLimits, ListUserLimitsResponse.self, next: \.nextPageToken,
                    request: {
                        ListUserLimitsRequest(
                            userID: ExactText(user ?? ""), queue: ExactText(queue ?? ""), pageSize: 1000,
                            pageToken: $0)
                    },
                    show: { page in
                        if json {
                            try page.writeJSON("limits")
                        } else {
                            try Terminal.write(table.text(page.message.limits.map(Self.row)))
                        }
                        return true
                    })
            }
        }

        static let table = Table([
            .init("USER"), .init("QUEUE"), .init("MAX RUNNING", alignsRight: true),
            .init("RUNNING", alignsRight: true),
        ])

        static func row(_ limit: UserLimitMessage) -> [String] {
            [limit.userID.text, limit.queue.text, "\(limit.maxRunning ?? 0)", "\(limit.running)"]
        }
    }

    package struct Set: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(
            abstract: "Set a user's own limit, or remove it.",
            discussion: "It applies to the jobs that start from now on; running jobs are not stopped.")

        @Option(help: "The user.", transform: String.init(notEmpty:))
        var user: String

        @Option(help: "The queue. [default: default]", transform: String.init(notEmpty:))
        var queue: String?

        @Option(
            help: ArgumentHelp(
                "How many jobs may run at once, 0 to 100,000; 0 stops the user's jobs from starting.",
                valueName: "count"))
        var maxRunning: Int?

        @Flag(help: "Remove the user's own limit, so that the queue's limit applies.")
        var clear = false

        @OptionGroup(title: "Server")
        var service: ServiceOptions

        package init() {}

        package func validate() throws {
            if clear == (maxRunning != nil) {
                throw ValidationError("Give either --max-running or --clear.")
            }
            if let maxRunning, !(0...JobLimits.userLimitMax).contains(maxRunning) {
                throw ValidationError("--max-running must be within 0 to \(JobLimits.userLimitMax).")
            }
        }

        package func run() async throws {
            let json = service.json
            try await withService(service.target()) {
                let request = UpdateUserLimitRequest(
                    limit: UserLimitMessage(
                        userID: ExactText(user), queue: ExactText(queue ?? ""), maxRunning: maxRunning),
                    updateMask: FieldMask(paths: ["max_running"]))
                let answer = try await $0.call(
                    AdminServiceMethod.updateUserLimit, request, UserLimitResponse.self)
                try LimitsCommand.show(answer, json: json)
            }
        }
    }

    fileprivate static func show(_ answer: Answer<UserLimitResponse>, json: Bool) throws {
        if json { return try answer.writeJSON("limit") }
        let limit = answer.message.limit
        let own = limit.isOverridden ? "set for this user" : "the queue's"
        try Terminal.write(
            "\(limit.userID) in \(limit.queue): \(limit.maxRunning ?? 0) at once (\(own)), \(limit.running) running"
                .printable + "\n")
    }
}
