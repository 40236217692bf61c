package import ArgumentParser
import JobModel
import SignalboxClient
import SignalboxProto
import Support

package struct LimitsCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "limits",
        abstract: "Show and set how many jobs of one user in one queue may run at once.",
        subcommands: [Get.self, Set.self])

    package init() {}

    package struct Get: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(abstract: "Show the limit in force.")

        @Option(help: "Whose.")
        var user: String

        @Option(help: "The queue. [default: default]")
        var queue: String?

        @OptionGroup(title: "Server")
        var service: ServiceOptions

        package init() {}

        package func run() async throws {
            let json = service.json
            try await withService(service.target()) {
                let request = GetUserLimitRequest(userID: ExactText(user), queue: ExactText(queue ?? ""))
                let response = try await $0.call(
                    AdminServiceMethod.getUserLimit, request, UserLimitResponse.self)
                try LimitsCommand.show(response.limit, json: json)
            }
        }
    }

    package struct Set: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(
            abstract: "Set a user's own limit, or remove it.",
            discussion: "It applies to the jobs that start from now on; running jobs are not stopped.")

        @Option(help: "Whose.")
        var user: String

        @Option(help: "The queue. [default: default]")
        var queue: String?

        @Option(help: "Jobs at once, 0 to 100,000; 0 stops the user's jobs from starting.")
        var limit: Int?

        @Flag(help: "Remove the user's own limit, so that the queue's limit applies.")
        var clear = false

        @OptionGroup(title: "Server")
        var service: ServiceOptions

        package init() {}

        package func validate() throws {
            if clear == (limit != nil) { throw ValidationError("Give either --limit or --clear.") }
            if let limit, !(0...JobLimits.userLimitMax).contains(limit) {
                throw ValidationError("--limit must be within 0 to \(JobLimits.userLimitMax).")
            }
        }

        package func run() async throws {
            let json = service.json
            try await withService(service.target()) {
                let request = UpdateUserLimitRequest(
                    limit: UserLimitMessage(
                        userID: ExactText(user), queue: ExactText(queue ?? ""), maxRunning: limit),
                    updateMask: FieldMask(paths: ["max_running"]))
                let response = try await $0.call(
                    AdminServiceMethod.updateUserLimit, request, UserLimitResponse.self)
                try LimitsCommand.show(response.limit, json: json)
            }
        }
    }

    fileprivate static func show(_ limit: UserLimitMessage, json: Bool) throws {
        if json { return try JSONLine.write(UserLimitView(limit)) }
        let own = limit.isOverridden ? "set for this user" : "the queue's"
        try Terminal.write(
            "\(limit.userID) in \(limit.queue): \(limit.maxRunning ?? 0) at once (\(own)), \(limit.running) running"
                .printable + "\n")
    }
}
