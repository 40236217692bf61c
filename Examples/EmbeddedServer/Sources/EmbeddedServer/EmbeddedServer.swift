import Foundation
import Logging
import Signalbox

/// A program with a job server inside: it enqueues a job on its own server, follows it and prints its result.
///
/// Without `DATABASE_URL` the server runs a Postgres of its own.
@main
struct EmbeddedServer {
    static func main() async throws {
        var configuration = SignalboxConfiguration()
        configuration.port = 0
        configuration.concurrency = 4
        configuration.databaseURL = ProcessInfo.processInfo.environment["DATABASE_URL"]
        let server = try SignalboxServer(
            handlers: [CountWords()], middleware: [LogAttempts()], configuration: configuration,
            logger: Logger(label: "embedded-server"))

        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            group.addTask { try await count(on: server.jobs) }
            // The first to end is the count, unless the server cannot start.
            try await group.next()
            group.cancelAll()
        }
    }

    static func count(on jobs: some JobQueue) async throws {
        let input = CountWords.Input(texts: ["To be, or not to be", "that is the question"])
        let enqueued = try await jobs.enqueue(CountWords.kind, userID: "ada", input: input)
        for try await update in jobs.watch(.job(enqueued.job.id)) {
            switch update {
            case .event(let event): print("\(event.sequence) \(event.state)")
            case .progress(_, _, let progress): print("\(progress.stage) \(progress.done)/\(progress.total)")
            case .snapshot, .log, .removed, .isCurrent: break
            }
        }
        print(try await jobs.result(of: enqueued.job.id, as: [Int].self))
    }
}
