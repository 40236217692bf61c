import JobModel
import SignalboxProto
import JobStore
import GRPC
import Support
import Testing

@testable import SignalboxAPI

/// A node's name tells of machines and processes: only who looks after the service reads it.
@Suite(.timeLimit(.minutes(2))) struct NodeNamesTests {
    private typealias Path = APIBench.Path

    /// The nodes that the events of a job name in a watch, by their types, up to its end. One of a user may tell of a job
    /// before, which has only just ended.
    private func nodes(
        _ bench: APIBench, of job: JobID, _ request: WatchRequest, as name: String,
        during change: () async throws -> Void
    ) async throws -> [JobEventType: String?] {
        var watch = try await bench.watch(request, as: name)
        var nodes: [JobEventType: String?] = [:]
        var isChanged = false
        while nodes[.succeeded] == nil, let bytes = try await watch.next() {
            switch try WatchResponse.decode(bytes).event {
            case .lifecycle(let event) where event.jobID == job:
                event.type.map { nodes[$0] = .some(event.node) }
            case .snapshotsComplete:
                if !isChanged { try await change() }
                isChanged = true
            default: break
            }
        }
        return nodes
    }

    private func run(_ bench: APIBench) async throws {
        let request = ClaimRequest(
            slots: 1, kinds: bench.kinds, cursor: ClaimCursor(), defaultUserLimit: 10)
        let run = try #require(try await bench.store.claim(request).runs.first)
        let verdict = Verdict.final(.succeeded, nil, nil)
        #expect(try await bench.store.finish(FinishedRun(run, node: "one", verdict: verdict)) == .written)
    }

    @Test func onlyPermittedCallersSeeNodes() async throws {
        try await APIBench.with { bench in
            for (name, node) in [("root", "one"), ("a", nil)] as [(String, String?)] {
                // As it happens, in a watch of a user, and of a named job.
                for isNamed in [false, true] {
                    let job = try await bench.enqueue("a", as: "a").id
                    let id = job.description
                    let request =
                        isNamed
                        ? WatchRequest(jobs: [.init(jobID: ExactText(id))])
                        : WatchRequest(filter: JobFilterMessage(userID: "a"))
                    let seen = try await nodes(bench, of: job, request, as: name) { try await run(bench) }
                    #expect(seen == [.started: node, .succeeded: node])
                    // From the database.
                    let missed = WatchRequest(jobs: [.init(jobID: ExactText(id), afterSequence: 1)])
                    #expect(try await nodes(bench, of: job, missed, as: name) {} == seen)
                    let found = try await bench.call(
                        Path.job + "GetJob", GetJobRequest(jobID: ExactText(id)), as: name,
                        GetJobResponse.self
                    ).job
                    #expect(found.attempts.map(\.node) == [node ?? ""])
                }
            }
        }
    }

    /// Both get the same event, which is encoded once for all watches with the same content.
    @Test func theSameNewsForBoth() async throws {
        try await APIBench.with { bench in
            for names in [["root", "a"], ["a", "root"]] {
                let job = try await bench.enqueue("a", as: "a").id
                let first = try await nodes(
                    bench, of: job, WatchRequest(filter: JobFilterMessage(userID: "a")), as: names[0]
                ) {
                    let second = try await nodes(
                        bench, of: job, WatchRequest(filter: JobFilterMessage(userID: "a")), as: names[1]
                    ) {
                        try await run(bench)
                    }
                    #expect(second[.started] == .some(names[1] == "root" ? "one" : nil))
                }
                #expect(first[.started] == .some(names[0] == "root" ? "one" : nil))
            }
        }
    }
}
