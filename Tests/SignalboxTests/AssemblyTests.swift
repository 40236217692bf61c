import GRPC
import JobEngine
import JobModel
import JobStore
import JobWatch
import Logging
import Postgres
import Settings
import SignalboxClient
import SignalboxJobs
import Support
import TestDatabase
import Testing

@testable import Signalbox

@Suite(.timeLimit(.minutes(3))) struct AssemblyTests {
    private let logger = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

    private func settings(_ schema: TestSchema, name: String, listen: String) throws -> ServerSettings {
        return try ServerSettings.resolve(
            arguments: [
                "--database-url", schema.url(applicationName: name), "--listen", listen, "--node-name", name,
            ], environment: [:])
    }

    private func count(_ database: Database, _ sql: String) async throws -> Int64 {
        try await database.run("count") { connection throws(PostgresError) in
            try connection.execute(Statement(nil, "SELECT count(*) FROM \(sql)")).onlyRow.int64(0)
        }
    }

    /// Its port is another's.
    @Test func aStartThatFailsLeavesNothingRunning() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                let (first, second) = (schema.name + "_1", schema.name + "_2")
                let running = try await Assembly.start(
                    settings(schema, name: first, listen: "127.0.0.1:0"), runners: [], logger: logger)
                let refused = try settings(schema, name: second, listen: running.address)
                await #expect(throws: (any Error).self) {
                    try await Assembly.start(refused, runners: [], logger: logger)
                }
                #expect(try await count(database, "node WHERE ended_at IS NULL AND name = '\(first)'") == 1)
                #expect(
                    try await count(database, "node WHERE ended_at IS NOT NULL AND name = '\(second)'") == 1)
                // The server ends its side of a closed connection in its own time.
                while try await count(database, "pg_stat_activity WHERE application_name = '\(second)'") > 0 {
                }
                await running.run {}
                #expect(try await count(database, "node WHERE ended_at IS NULL") == 0)
            }
        }
    }

    /// Runs a server for the length of `body`, which gets its jobs as a program that embeds it has them.
    private func withRunning(
        runners: [any JobRunner], _ body: @escaping @Sendable (Assembly, EmbeddedJobs) async throws -> Void
    ) async throws {
        try await TestDatabase.withSchema { schema in
            let assembly = try await Assembly.start(
                settings(schema, name: schema.name, listen: "127.0.0.1:0"), runners: runners, logger: logger)
            let server = RunningServer()
            server.starts(.init(jobs: assembly.jobs, watches: assembly.watches))
            await assembly.run {
                do {
                    try await body(assembly, EmbeddedJobs(server: server))
                } catch {
                    Issue.record(error)
                }
            }
        }
    }

    /// A batch that a program may enqueue by its own server is one that a client may send it, but for what a message has
    /// besides payloads.
    @Test func theByteLimitOfABatchIsThatOfAMessage() async throws {
        func batch(of bytes: Int) throws -> [JobRequest] {
            try [1 << 20, 1 << 20, 1 << 20, 1 << 19, bytes - (7 << 19)].map {
                try JobRequest(kind: "test.noop", userID: "ada", input: String(repeating: "x", count: $0 - 2))
            }
        }
        let (fits, exceeds) = (try batch(of: 4 << 20 - 2048), try batch(of: 4 << 20 + 1))
        #expect(exceeds.reduce(0) { $0 + $1.payload.data.count } == 4 << 20 + 1)
        try await withRunning(runners: [TestNoopRunner()]) { assembly, embedded in
            let address = try #require(HostPort(assembly.address))
            let client = try SignalboxClient(.init(host: address.host, port: address.port))
            for jobs in [embedded, client] as [any JobQueue] {
                #expect(try await jobs.enqueue(fits).count == fits.count)
                let error = try await #require(throws: SignalboxError.self) {
                    try await jobs.enqueue(exceeds)
                }
                #expect([.invalidArgument, .resourceExhausted].contains(error.code))
            }
            await client.close()
        }
    }

    /// The kinds of this node are those of its runners now, before the cluster knows of them.
    @Test func aKindWhoseRunnersComeLaterIsTakenAtOnce() async throws {
        try await withRunning(runners: []) { assembly, jobs in
            let request = try JobRequest(kind: "test.noop", userID: "ada", input: 1)
            let error = try await #require(throws: SignalboxError.self) { try await jobs.enqueue(request) }
            #expect(error.reason == "KIND_UNKNOWN" && error.metadata["field"] == "job.kind")
            // From here on the kind counts as unknown for a second.
            _ = assembly.node.addPool([TestNoopRunner()], concurrency: 1)
            let enqueued = try await jobs.enqueue(request)
            #expect(try await jobs.finalJob(enqueued.job.id).state == .succeeded)
        }
    }

    /// The parts of a server that has run.
    private struct Parts {
        weak var store: JobStore?
        weak var changes: ChangeFeed?
        weak var hub: WatchHub?
        weak var node: WorkerNode?

        init(_ assembly: Assembly) {
            (store, changes) = (assembly.store, assembly.changes)
            (hub, node) = (assembly.hub, assembly.node)
        }

        var areGone: Bool { store == nil && changes == nil && hub == nil && node == nil }
    }

    /// Starts a server, and shuts it down after a job has run and while a watch is open.
    private func partsOfAServerThatHasRun(_ settings: ServerSettings) async throws -> Parts {
        let assembly = try await Assembly.start(settings, runners: [TestNoopRunner()], logger: logger)
        let parts = Parts(assembly)
        #expect(!parts.areGone)
        let store = assembly.store
        await assembly.run {
            do {
                let spec = JobSpec(kind: "test.noop", userID: "u", queue: "q")
                let job = try await store.enqueue(NewJob(spec: spec, now: .now, by: .settings)).job
                _ = assembly.hub.subscribe(userID: "u", queue: nil, users: .all)
                let watch = assembly.hub.subscribe(to: [job.id: job.number], includesLog: false)
                watch.track(job.id, delivered: 1, isFinal: false)
                var events: [JobModel.JobEvent] = []
                while events.last?.state.isFinal != true {
                    events = try await store.events(after: [job.number: 0])[job.number] ?? []
                }
            } catch {
                Issue.record(error)
            }
        }
        return parts
    }

    /// Without any part being told to release another.
    @Test func partsAreFreedAfterAShutdown() async throws {
        try await TestDatabase.withSchema { schema in
            let parts = try await partsOfAServerThatHasRun(
                settings(schema, name: schema.name, listen: "127.0.0.1:0"))
            // What ends with the server, such as a thread of the store, may hold a part for a moment.
            while !parts.areGone { await Task.yield() }
        }
    }
}
