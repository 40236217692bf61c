import GRPC
import JobModel
import JobService
import SignalboxProto
import Support
import Testing

@testable import SignalboxAPI

@Suite(.timeLimit(.minutes(2))) struct ServerInfoTests {
    private func info(_ bench: APIBench, as name: String) async throws -> GetServerInfoResponse {
        try await bench.call(
            InfoServiceMethod.getServerInfo, GetServerInfoRequest(), as: name, GetServerInfoResponse.self)
    }

    @Test func theServer() async throws {
        try await APIBench.with { bench in
            let before = Timestamp.now
            let info = try await info(bench, as: "root")
            #expect(info.version == "1.2.3" && info.apiPackages == ["signalbox.v1"] && info.node == "one")
            #expect((before...Timestamp.now).contains(info.at))
            #expect(info.limits.retention == .seconds(99))
            #expect(info.limits.heartbeatInterval == bench.heartbeatInterval)
            // There is no call yet that waits for a job, and no feature that not every server has.
            #expect(info.limits.waitMax == nil && info.features.isEmpty)
        }
    }

    @Test func theCaller() async throws {
        let many = (1_000..<1_150).map { ExactText("u\($0)") }
        let callers: [String: UserScope] = [
            "root": .all, "a": .only(["b", "a"]), "none": .only([]), "many": .only(Set(many)),
        ]
        try await APIBench.with(callers: callers) { bench in
            let others = ["jobs.cancel", "jobs.enqueue", "jobs.read"]
            let root = try await info(bench, as: "root")
            let scopes = ["admin"] + others
            #expect(
                root.caller
                    == CallerInfo(name: "root", source: "token", scopes: scopes, hasAllUsers: true, users: [])
            )
            let a = try await info(bench, as: "a")
            #expect(
                a.caller
                    == CallerInfo(
                        name: "a", source: "token", scopes: others, hasAllUsers: false, users: ["a", "b"]))
            // Only callers with the scope admin see the names of nodes.
            #expect(root.node == "one" && a.node == "")
            let none = try await info(bench, as: "none").caller
            #expect(!none.hasAllUsers && none.users.isEmpty)
            let first = try await info(bench, as: "many").caller.users
            #expect(first == Array(many.prefix(100)))
        }
    }

    @Test func withoutCredentials() async throws {
        try await APIBench.with { bench in
            let status = try await bench.status(
                InfoServiceMethod.getServerInfo, GetServerInfoRequest(), as: "unknown")
            #expect(status.code == .unauthenticated)
        }
    }
}
