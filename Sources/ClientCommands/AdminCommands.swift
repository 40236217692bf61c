package import ArgumentParser
import JobModel
import SignalboxClient
import SignalboxProto
import Support

package struct StatsCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "Show the number of jobs in each queue, and their rates.",
        discussion: "In a line that ends with 'not all counted' the numbers are lower bounds.")

    @Option(help: "Only this queue.", transform: String.init(notEmpty:))
    var queue: String?

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func run() async throws {
        let json = service.json
        try await withService(service.target()) { service in
            var table = Self.table
            func show(_ queues: [QueueRecord]) throws {
                try Terminal.write(table.text(queues.map(Self.row)))
            }
            if let queue {
                let request = GetQueueRequest(queue: ExactText(queue), includeStats: true)
                let answer = try await service.call(AdminServiceMethod.getQueue, request, QueueResponse.self)
                return try json ? answer.writeJSON("queue") : show([answer.message.queue])
            }
            try await service.pages(
                AdminServiceMethod.listQueues, ListQueuesResponse.self, next: \.nextPageToken,
                request: { ListQueuesRequest(pageSize: 1000, pageToken: $0, includeStats: true) },
                show: { page in
                    try json ? page.writeJSON("queues") : show(page.message.queues)
                    return true
                })
        }
    }

    static let table = Table([
        .init("QUEUE"), .init("PENDING", alignsRight: true), .init("NOT DUE", alignsRight: true),
        .init("RUNNING", alignsRight: true), .init("SUCCEEDED", alignsRight: true),
        .init("FAILED", alignsRight: true), .init("CANCELLED", alignsRight: true),
        .init("OLDEST", alignsRight: true), .init("IN/S", alignsRight: true),
        .init("OUT/S", alignsRight: true),
        .init(""),
    ])

    static func row(_ queue: QueueRecord) -> [String] {
        let stats = queue.stats ?? QueueStats(queue: queue.name)
        return [
            stats.queue, "\(stats.pending)", "\(stats.notDue)", "\(stats.running)", "\(stats.succeeded)",
            "\(stats.failed)", "\(stats.cancelled)", stats.oldestPendingAge?.brief ?? "-",
            tenths(stats.enqueuedPerSecond), tenths(stats.finishedPerSecond),
            [queue.isPaused ? "paused" : nil, stats.isCapped ? "not all counted" : nil].compactMap(\.self)
                .joined(
                    separator: ", "),
        ]
    }

    /// Formats a number with one digit after the point. `value` comes from the server, so it may be any number.
    private static func tenths(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "?" }
        let tenths = Int64((value * 10).rounded())
        return "\(tenths / 10).\(tenths.magnitude % 10)"
    }
}

package struct NodesCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "nodes", abstract: "List the server processes of the last hour, newest first.")

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func run() async throws {
        let json = service.json
        try await withService(service.target()) { service in
            var table = Self.table
            try await service.pages(
                AdminServiceMethod.listNodes, ListNodesResponse.self, next: \.nextPageToken,
                request: { ListNodesRequest(pageSize: 100, pageToken: $0) },
                show: { page in
                    if json {
                        try page.writeJSON("nodes")
                    } else {
                        try Terminal.write(table.text(page.message.nodes.map(Self.row)))
                    }
                    return true
                })
        }
    }

    static let table = Table([
        .init("NAME"), .init("VERSION"), .init("ALIVE"), .init("RUNNING", alignsRight: true),
        .init("SLOTS", alignsRight: true), .init("STARTED"), .init("HEARTBEAT"), .init("KINDS", max: 80),
    ])

    static func row(_ node: NodeRecord) -> [String] {
        [
            node.name, node.version, node.isAlive ? "yes" : "no", "\(node.running)", "\(node.concurrency)",
            node.startedAt.text, node.heartbeatAt.text, node.kinds.joined(separator: " "),
        ]
    }
}

package struct QueueCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "queue", abstract: "Pause and resume queues.", subcommands: [Pause.self, Resume.self])

    package init() {}

    package struct Pause: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(
            abstract: "Start no more jobs of a queue, on any node. Running jobs continue.")

        @Argument(help: "The queue.", transform: String.init(notEmpty:))
        var name: String

        @OptionGroup(title: "Server")
        var service: ServiceOptions

        package init() {}

        package func run() async throws {
            try await withService(service.target()) {
                let request = PauseQueueRequest(queue: ExactText(name))
                let answer = try await $0.call(AdminServiceMethod.pauseQueue, request, QueueResponse.self)
                if service.json { try answer.writeJSON("queue") }
            }
        }
    }

    package struct Resume: AsyncParsableCommand {
        package static let configuration = CommandConfiguration(abstract: "Resume a paused queue.")

        @Argument(help: "The queue.", transform: String.init(notEmpty:))
        var name: String

        @OptionGroup(title: "Server")
        var service: ServiceOptions

        package init() {}

        package func run() async throws {
            try await withService(service.target()) {
                let request = ResumeQueueRequest(queue: ExactText(name))
                let answer = try await $0.call(AdminServiceMethod.resumeQueue, request, QueueResponse.self)
                if service.json { try answer.writeJSON("queue") }
            }
        }
    }
}

package struct HealthCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "health", abstract: "Check whether the server is serving.",
        discussion: "Exit code 0: it is serving. 4: it is not, or does not answer. 3: it has no such service."
    )

    @Option(
        name: .customLong("service"),
        help: ArgumentHelp(
            "Check one gRPC service, as in signalbox.v1.JobService. [default: the whole server]",
            valueName: "name"), transform: String.init(notEmpty:))
    var serviceName: String?

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func run() async throws {
        let json = service.json
        try await withService(service.target()) { service in
            let answer = try await service.call(
                HealthMethod.check, HealthCheckRequest(service: ExactText(serviceName ?? "")),
                HealthCheckResponse.self)
            let status = answer.message.status
            if json { try answer.writeJSON() } else { try Terminal.write(Self.word(status) + "\n") }
            switch status {
            case .serving: return
            case .serviceUnknown: throw ExitCode.notFound
            case .unknown, .notServing, nil: throw ExitCode.unavailable
            }
        }
    }

    /// The name of a status in grpc.health.v1.
    static func word(_ status: HealthCheckResponse.Status?) -> String {
        switch status {
        case .unknown, nil: "UNKNOWN"
        case .serving: "SERVING"
        case .notServing: "NOT_SERVING"
        case .serviceUnknown: "SERVICE_UNKNOWN"
        }
    }
}
