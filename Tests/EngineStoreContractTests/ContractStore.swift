import FoundationEssentials
import JobModel
import ModelStore
import Postgres
import Support
import Synchronization
import TestDatabase

@testable import JobStore

/// One node's way to a store, with what the suite needs beyond `EngineStore`.
protocol ContractStore: EngineStore {
    func observe(_ observer: @escaping @Sendable ([LocalChange]) -> Void)
    func startJobs(with starter: any RunStarter)
    func enqueue(_ job: NewJob) async throws(StoreError) -> Enqueued
    func requestCancel(
        _ id: JobID, note: String, expectedSequence: Int64, for users: UserScope
    ) async throws(StoreError)
    func requestRetry(_ id: JobID, expectedSequence: Int64, for users: UserScope) async throws(StoreError)
    func pause(_ isPaused: Bool, queue: ExactText) async throws(StoreError)
    func limitQueue(_ queue: ExactText, to limit: Int) async throws(StoreError)
    func limitUser(_ userID: ExactText, queue: ExactText, to limit: Int?) async throws(StoreError)
    /// With its attempts and its log, and without its payload.
    func record(_ id: JobID) async throws(StoreError) -> JobRecord?
    func history(_ job: JobRecord) async throws(StoreError) -> [JobEvent]
}

extension ContractStore {
    func requestCancel(_ id: JobID, note: String, for users: UserScope) async throws(StoreError) {
        try await requestCancel(id, note: note, expectedSequence: 0, for: users)
    }

    func requestRetry(_ id: JobID, for users: UserScope) async throws(StoreError) {
        try await requestRetry(id, expectedSequence: 0, for: users)
    }
}

/// A store under test that several nodes use.
protocol ContractCluster: Sendable {
    /// A node that is not registered yet.
    func store() -> any ContractStore
    /// Lets time pass for leases, due times and ages.
    func pass(_ duration: Duration) async throws
    /// Ends runs in one commit, for a node.
    func finish(_ finishedRuns: [FinishedRun], by store: any ContractStore) async throws -> [FinishResult]
}

/// The stores that the contract holds for.
enum Implementation: String, CaseIterable, Sendable {
    case postgres, model

    func withCluster(_ body: (any ContractCluster) async throws -> Void) async throws {
        switch self {
        case .postgres:
            try await TestDatabase.withSchema { schema in
                try await schema.withDatabase(connectionCount: 2) { database in
                    _ = try await Migrator.migrate(database)
                    try await body(PostgresCluster(database: database))
                }
            }
        case .model:
            try await body(ModelCluster())
        }
    }
}

// MARK: Postgres

struct PostgresCluster: ContractCluster {
    let database: Database

    func store() -> any ContractStore { JobStore(database: database, leaseDatabase: database) }

    func pass(_ duration: Duration) async throws {
        let interval = "interval '\(duration.microseconds) microseconds'"
        try await database.run("pass") { connection throws(PostgresError) in
            try connection.executeScript(
                """
                UPDATE node SET lease_until = lease_until - \(interval);
                UPDATE live SET due_at = due_at - \(interval);
                ALTER TABLE finished DISABLE TRIGGER finished_immutable;
                UPDATE finished SET finished_at = finished_at - \(interval);
                ALTER TABLE finished ENABLE TRIGGER finished_immutable;
                ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_immutable;
                UPDATE audit_entry SET at = at - \(interval);
                ALTER TABLE audit_entry ENABLE TRIGGER audit_entry_immutable;
                UPDATE change SET at = at - \(interval);
                """)
        }
    }

    func finish(_ finishedRuns: [FinishedRun], by store: any ContractStore) async throws -> [FinishResult] {
        guard let store = store as? JobStore else { throw Unexpected("the store is no JobStore") }
        return try await database.run("finish") { connection throws(PostgresError) in
            try store.commitFinishedRuns(finishedRuns, connection)
        }.map { try $0.get() }
    }
}

extension JobStore: ContractStore {
    func requestCancel(
        _ id: JobID, note: String, expectedSequence: Int64, for users: UserScope
    ) async throws(StoreError) {
        _ = try await cancel(id, note: note, expectedSequence: expectedSequence, by: .with(users))
    }

    func requestRetry(_ id: JobID, expectedSequence: Int64, for users: UserScope) async throws(StoreError) {
        _ = try await retry(id, expectedSequence: expectedSequence, by: .with(users))
    }

    func pause(_ isPaused: Bool, queue: ExactText) async throws(StoreError) {
        try await setPaused(isPaused, queue: queue.text, by: .with(.all))
    }

    func limitQueue(_ queue: ExactText, to limit: Int) async throws(StoreError) {
        try await setQueueLimit(limit, queue: queue.text, by: .with(.all))
    }

    func limitUser(_ userID: ExactText, queue: ExactText, to limit: Int?) async throws(StoreError) {
        try await setUserLimit(limit, userID: userID, queue: queue.text, by: .with(.all))
    }

    func record(_ id: JobID) async throws(StoreError) -> JobRecord? {
        try await jobWithHistory(id, for: .all, payload: false)
    }

    func history(_ job: JobRecord) async throws(StoreError) -> [JobEvent] {
        try await events(after: [job.number: 0])[job.number] ?? []
    }
}

extension Caller {
    static func with(_ users: UserScope) -> Caller {
        Caller(name: "anyone", source: .token, address: "127.0.0.1:1", users: users)
    }
}

// MARK: The model

/// A clock that only its owner moves.
final class ManualClock: Sendable {
    private let time = Mutex(Timestamp(microseconds: 1_700_000_000_000_000))

    /// Every look at it is a microsecond later than the one before, so that transactions have different times.
    func now() -> Timestamp {
        time.withLock { time in
            time.microseconds += 1
            return time
        }
    }

    func pass(_ duration: Duration) { time.withLock { $0 = $0.advanced(by: duration) } }
}

struct ModelCluster: ContractCluster {
    private let clock: ManualClock
    private let database: ModelDatabase

    init() {
        let clock = ManualClock()
        self.clock = clock
        database = ModelDatabase { clock.now() }
    }

    func store() -> any ContractStore { ModelStore(database) }

    func pass(_ duration: Duration) async throws { clock.pass(duration) }

    func finish(_ finishedRuns: [FinishedRun], by store: any ContractStore) async throws -> [FinishResult] {
        guard let store = store as? ModelStore else { throw Unexpected("the store is no ModelStore") }
        return try store.finish(inOneCommit: finishedRuns)
    }
}

extension ModelStore: ContractStore {
    func requestCancel(
        _ id: JobID, note: String, expectedSequence: Int64, for users: UserScope
    ) throws(StoreError) {
        _ = try cancel(id, note: note, expectedSequence: expectedSequence, for: users)
    }

    func requestRetry(_ id: JobID, expectedSequence: Int64, for users: UserScope) throws(StoreError) {
        _ = try retry(id, expectedSequence: expectedSequence, for: users)
    }

    func pause(_ isPaused: Bool, queue: ExactText) throws(StoreError) {
        try setPaused(isPaused, queue: queue)
    }

    func limitQueue(_ queue: ExactText, to limit: Int) throws(StoreError) {
        try setQueueLimit(limit, queue: queue)
    }

    func limitUser(_ userID: ExactText, queue: ExactText, to limit: Int?) throws(StoreError) {
        try setUserLimit(limit, userID: userID, queue: queue)
    }

    func record(_ id: JobID) throws(StoreError) -> JobRecord? { job(id) }

    func history(_ job: JobRecord) throws(StoreError) -> [JobEvent] { events(of: job.id) }
}

struct Unexpected: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
