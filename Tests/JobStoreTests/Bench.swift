import Foundation
import JobModel
import JobStore
import Postgres
import Support
import Synchronization
import TestDatabase

/// A migrated schema of its own, with a store that is registered as node `one`.
struct Bench: Sendable {
    let schema: TestSchema
    let database: Database
    let store: JobStore
    /// Numbers of the kinds of node `one`.
    let kinds: [Int32]
    /// The changes that the store has published.
    let changes: PublishedChanges

    static func with<R: Sendable>(
        connections: Int = 4, kinds: [String: Interruption] = ["k": .retry], lease: Duration = .seconds(600),
        _ body: (Bench) async throws -> R
    ) async throws -> R {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(connectionCount: connections, queueCountMax: 4096) { database in
                _ = try await Migrator.migrate(database)
                let store = JobStore(database: database, leaseDatabase: database)
                let changes = PublishedChanges()
                store.observe { changes.add($0) }
                let registered = try await store.register(
                    description("one", kinds: kinds), lease: lease)
                return try await body(
                    Bench(
                        schema: schema, database: database, store: store,
                        kinds: Array(registered.kinds.values), changes: changes)
                )
            }
        }
    }

    static func description(
        _ name: String, kinds: [String: Interruption] = ["k": .retry], concurrency: Int = 10
    ) -> NodeDescription {
        NodeDescription(
            id: UUID(), name: name, version: "1", concurrency: concurrency, kinds: kinds)
    }

    /// Another node of the same service.
    func peer(_ name: String = "two", lease: Duration = .seconds(600)) async throws -> JobStore {
        let store = JobStore(database: database, leaseDatabase: database)
        _ = try await store.register(Self.description(name), lease: lease)
        return store
    }

    @discardableResult
    func enqueue(_ spec: JobSpec = JobSpec(kind: "k", userID: "u")) async throws -> JobRecord {
        try await store.enqueue(NewJob(spec: spec, now: .now)).job
    }

    func claim(
        _ slots: Int = 100, limit: Int = 100, by other: JobStore? = nil, kinds wanted: [Int32]? = nil
    ) async throws -> [ClaimedRun] {
        try await (other ?? store).claim(
            ClaimRequest(
                slots: slots, kinds: wanted ?? kinds, cursor: ClaimCursor(), defaultUserLimit: limit)
        ).runs
    }

    /// Enqueues a job and starts it.
    func start(_ spec: JobSpec = JobSpec(kind: "k", userID: "u")) async throws -> ClaimedRun {
        let job = try await enqueue(spec)
        guard let run = try await claim().first(where: { $0.key.id == job.id }) else {
            throw Missing("the job was not claimed")
        }
        return run
    }

    @discardableResult
    func finish(_ run: ClaimedRun, _ verdict: Verdict, by other: JobStore? = nil) async throws
        -> FinishResult
    {
        try await (other ?? store).finish(FinishedRun(run, node: "one", verdict: verdict))
    }

    func job(_ id: JobID) async throws -> JobRecord {
        guard let job = try await store.job(id) else { throw Missing("no job \(id)") }
        return job
    }

    func count(_ sql: String) async throws -> Int {
        try await database.run("count") { connection throws(PostgresError) in
            Int(try connection.execute(Statement(nil, "SELECT count(*) FROM \(sql)")).onlyRow.int64(0))
        }
    }

    /// The first column, which must be text.
    func texts(_ sql: String) async throws -> [String] {
        try await database.run("texts") { connection throws(PostgresError) in
            var texts: [String] = []
            for row in try connection.execute(Statement(nil, sql)) { texts.append(try row.string(0)) }
            return texts
        }
    }

    func script(_ sql: String) async throws {
        try await database.run("script") { connection throws(PostgresError) in
            try connection.executeScript(sql)
        }
    }

    /// The SQLSTATE with which the server refuses a script, or nil.
    func refusal(of sql: String) async throws -> (state: String, constraint: String)? {
        do {
            try await script(sql)
            return nil
        } catch let error as PostgresError {
            guard let state = error.sqlState else { throw error }
            return (state, error.constraint ?? "")
        }
    }
}

struct Missing: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// The changes that a store has published.
final class PublishedChanges: Sendable {
    private let changes = Mutex<[LocalChange]>([])

    func add(_ new: [LocalChange]) { changes.withLock { $0 += new } }

    var all: [LocalChange] { changes.withLock { $0 } }

    func events(of id: JobID) -> [JobEvent] {
        all.compactMap { if case .event(let event, let key) = $0, key.id == id { event } else { nil } }
    }
}

extension Verdict {
    static let success = Verdict.final(.succeeded, nil, JobResult(data: [7], contentType: "x/y"))
    static let failure = Verdict.final(.failed, JobError(message: "oops", cause: .handler), nil)
    static let cancelled = Verdict.final(
        .cancelled, JobError(message: "why", cause: .cancelled), nil)
    static let released = Verdict.again(
        .released, JobError(message: "m", cause: .released), after: nil, countsAttempt: false)

    static func again(after delay: Duration = .zero, cause: FailureCause = .handler) -> Verdict {
        .again(.retryScheduled, JobError(message: "m", cause: cause), after: delay, countsAttempt: true)
    }
}
