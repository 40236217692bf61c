import Foundation
import JobModel
import JobStore
import JobEngine
import Logging
import Postgres
import Support
import Synchronization
import TestDatabase

/// Does what its test says.
struct ScriptedRunner: JobRunner {
    let definition: KindDefinition
    let body: @Sendable (any Run) async throws -> JobResult

    init(
        _ kind: String = "k", timeout: Duration = .seconds(60), onInterruption: Interruption = .retry,
        _ body: @escaping @Sendable (any Run) async throws -> JobResult
    ) {
        definition = KindDefinition(kind: kind, timeout: timeout, onInterruption: onInterruption)
        self.body = body
    }

    func run(_ run: any Run) async throws -> JobResult { try await body(run) }

    static let done = JobResult(data: [1], contentType: "x/y")

    /// Ends only by cancellation.
    static func forever() async throws -> JobResult {
        let (never, silent) = AsyncStream<Void>.makeStream()
        for await _ in never {}
        withExtendedLifetime(silent) {}
        throw CancellationError()
    }
}

/// A working node on a schema of its own.
struct NodeBench: Sendable {
    let schema: TestSchema
    let database: Database
    let store: JobStore
    let node: WorkerNode
    /// The events that the store has published, in that order; for one reader. A claim may be published before the
    /// enqueue of its jobs, whose thread may still be publishing.
    let events: AsyncStream<JobEvent>
    private let enqueued = Enqueued()

    static func with(
        _ runner: ScriptedRunner, configure: (inout WorkerNode.Configuration) -> Void = { _ in },
        logger: Logger = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() },
        _ body: (NodeBench) async throws -> Void
    ) async throws {
        var configuration = WorkerNode.Configuration(name: "one", version: "1", concurrency: 4)
        configuration.grace = .seconds(30)
        configure(&configuration)
        let settings = configuration
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(connectionCount: 4) { database in
                try await schema.withDatabase { leaseDatabase in
                    _ = try await Migrator.migrate(database)
                    let store = JobStore(database: database, leaseDatabase: leaseDatabase)
                    try await work(schema, database, store, runner, settings, logger, body)
                }
            }
        }
    }

    private static func work(
        _ schema: TestSchema, _ database: Database, _ store: JobStore, _ runner: ScriptedRunner,
        _ configuration: WorkerNode.Configuration, _ logger: Logger, _ body: (NodeBench) async throws -> Void
    ) async throws {
        let node = WorkerNode(
            store: store, runners: [runner], configuration: configuration, logger: logger, runtime: .system,
            publish: { _ in },
            onPeers: { _ in })
        let (events, published) = AsyncStream<JobEvent>.makeStream()
        store.observe { changes in
            for case .event(let event, _) in changes { published.yield(event) }
            node.receive(changes)
        }
        store.startJobs(with: node)
        try await node.register()
        let working = Task { await node.run() }
        defer { working.cancel() }
        try await body(
            NodeBench(schema: schema, database: database, store: store, node: node, events: events))
        await node.shutdown(grace: .zero)
        working.cancel()
        await working.value
    }

    func enqueue(_ change: (inout JobSpec) -> Void = { _ in }) async throws -> JobID {
        var spec = JobSpec(kind: "k", userID: "u", retryPolicy: RetryPolicy(initialDelay: .zero))
        change(&spec)
        return try await store.enqueue(NewJob(spec: spec, now: .now)).job.id
    }

    /// What happened to the one job that is under way, up to the first event of this type.
    func events(upTo type: JobEventType) async -> [JobEventType] {
        var published: [JobEvent] = []
        for await event in events {
            published.append(event)
            if event.type == .enqueued { enqueued.insert(event.jobID) }
            if let last = published.first(where: { $0.type == type }), enqueued.contains(last.jobID) { break }
        }
        return published.sorted { $0.sequence < $1.sequence }.compactMap(\.type)
    }

    func job(_ id: JobID) async throws -> JobRecord? {
        try await store.jobWithHistory(id, payload: false)
    }

    func script(_ sql: String) async throws {
        try await database.run("script") { connection throws(PostgresError) in
            try connection.executeScript(sql)
        }
    }
}

/// The jobs whose enqueue was published of.
private final class Enqueued: Sendable {
    private let jobs = Mutex<Set<JobID>>([])
    func insert(_ job: JobID) { jobs.withLock { _ = $0.insert(job) } }
    func contains(_ job: JobID) -> Bool { jobs.withLock { $0.contains(job) } }
}
