package import ArgumentParser
import JobModel
import SignalboxProto
import Support

package struct ServerInfoCommand: AsyncParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "server-info",
        abstract: "Show the server's version, features and limits, and what you may do there.")

    @OptionGroup(title: "Server")
    var service: ServiceOptions

    package init() {}

    package func run() async throws {
        let json = service.json
        try await withService(service.target()) { service in
            let answer = try await service.call(
                InfoServiceMethod.getServerInfo, GetServerInfoRequest(), GetServerInfoResponse.self)
            if json { return try answer.writeJSON() }
            try Terminal.write(Self.lines(answer.message).joined(separator: "\n") + "\n")
        }
    }

    static func lines(_ info: GetServerInfoResponse) -> [String] {
        let caller = info.caller
        let users = caller.hasAllUsers ? "(all)" : list(caller.users.map(\.text))
        var facts = [
            ("version", info.version.text), ("API", list(info.apiPackages.map(\.text))),
            ("time", info.at.text),
            (
                "caller",
                caller.name.utf8.isEmpty
                    ? "(the server requires no credentials)" : "\(caller.name) (\(caller.source))"
            ),
            ("scopes", list(caller.scopes)), ("users", users),
        ]
        // The server names the node only to callers with the scope admin.
        if !info.node.isEmpty { facts.insert(("node", info.node.text), at: 2) }
        var lines = facts.map { "\("\($0):".padded(toColumns: 10))\($1.printable)" }
        if !info.features.isEmpty {
            let width = (info.features.map { $0.name.printable.columns }.max() ?? 0) + 2
            lines += ["", "Features:"]
            lines += info.features.map { feature in
                let name = feature.name.printable.padded(toColumns: width)
                let stability = (feature.stability?.word ?? "UNSPECIFIED").padded(toColumns: 14)
                return "  \(name)\(stability)\(feature.isEnabled ? "enabled" : "disabled")"
            }
        }
        lines += ["", "Limits:"]
        lines += limits(info.limits).map { "  \($0.padded(toColumns: 19))\($1)" }
        return lines
    }

    private static func limits(_ limits: ServerLimits) -> [(String, String)] {
        var facts = [
            ("payload", "\(limits.payloadBytesMax) bytes"), ("result", "\(limits.resultBytesMax) bytes"),
            ("result in events", "\(limits.eventResultBytesMax) bytes"),
            ("batch", "\(limits.batchJobsMax) jobs, \(limits.batchBytesMax) bytes"),
            ("watch", "\(limits.watchedJobsMax) jobs"), ("page", "\(limits.pageSizeMax) jobs"),
            ("checkpoint", "\(limits.checkpointBytesMax) bytes"), ("log", "\(limits.logLinesKept) lines"),
            ("labels", "\(limits.labelsMax)"),
        ]
        if let interval = limits.heartbeatInterval { facts.append(("heartbeats", "every \(interval.brief)")) }
        if let retention = limits.retention { facts.append(("retention", retention.brief)) }
        if let wait = limits.waitMax { facts.append(("wait", wait.brief)) }
        return facts
    }

    private static func list(_ words: [String]) -> String {
        words.isEmpty ? "(none)" : words.joined(separator: " ")
    }
}
