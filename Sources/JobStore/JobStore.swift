import JobCore
import Logging
package import Postgres
import Synchronization

/// Everything that the service keeps, in Postgres. Every SQL statement is in this module; no decision is.
///
/// Whatever it commits it tells to one observer, once it is durable (`Notice`).
package final class JobStore: Sendable {
    package struct Configuration: Sendable {
        /// The schema's name is part of it: services in other schemas of the database are not disturbed.
        package var notifyChannel = "signalbox"
        /// An operation that takes longer has failed.
        package var timeout: Duration = .seconds(10)

        package init() {}
    }

    /// What every session of the store is to have.
    package static let sessionSettings = [
        // A client that is gone must not hold locks.
        "idle_in_transaction_session_timeout": "30s",
        // Less than the store waits: what was given up must not be committed much later.
        "statement_timeout": "9s",
        // Compiling costs more than any of our statements.
        "jit": "off",
        // A plan that was made while a table was empty reads it from end to end, and may be kept long after it
        // was filled. All that is called often has an index to go by.
        "enable_seqscan": "off",
        // With the values at hand the planner would plan each statement again, which takes longer than to run it.
        "plan_cache_mode": "force_generic_plan",
    ]

    private struct Node {
        var number: Int32 = 0
        var name = ""
    }

    /// In a struct: a function that a lock holds by itself is wrapped once more each time it is looked at.
    private struct Observers {
        var onCommit: (@Sendable ([Notice]) -> Void)?
    }

    let catalog = Catalog()
    let notifyChannel: String
    private let database: Database
    private let leaseDatabase: Database
    private let timeout: Duration
    private let node = Mutex(Node())
    private let observers = Mutex(Observers())
    private let batchers = Mutex<Batchers?>(nil)

    /// The group commits refer to the store, so they are made after it.
    private struct Batchers: Sendable {
        var enqueues: GroupCommit<NewJob, EnqueueOutcome>
        var endings: GroupCommit<Ending, EndingOutcome>
    }

    /// - Parameter leaseDatabase: one connection to the same database, for the renewal of leases alone.
    package init(
        database: Database, leaseDatabase: Database, configuration: Configuration = Configuration()
    ) {
        self.database = database
        self.leaseDatabase = leaseDatabase
        notifyChannel = configuration.notifyChannel
        timeout = configuration.timeout
    }

    /// Tells `observer` of every commit from now on. Called on a thread of the store: it must not block.
    package func observe(_ observer: @escaping @Sendable ([Notice]) -> Void) {
        observers.withLock { $0.onCommit = observer }
    }

    /// This node's number in the database, once it is registered; 0 before.
    package var nodeNumber: Int32 { node.withLock(\.number) }
    var nodeName: String { node.withLock(\.name) }

    func setNode(number: Int32, name: String) {
        node.withLock { $0 = Node(number: number, name: name) }
    }

    func tell(_ notices: [Notice]) {
        guard !notices.isEmpty else { return }
        observers.withLock(\.onCommit)?(notices)
    }

    var enqueues: GroupCommit<NewJob, EnqueueOutcome> { allBatchers.enqueues }
    var endings: GroupCommit<Ending, EndingOutcome> { allBatchers.endings }

    private var allBatchers: Batchers {
        batchers.withLock { batchers in
            if let batchers { return batchers }
            // Unowned would do, but a commit in flight must not outlive the store: it keeps it alive.
            let made = Batchers(
                enqueues: GroupCommit(cost: { 512 + $0.spec.payload.count }) { [weak self] jobs in
                    guard let self else { return jobs.map { _ in .failure(.unavailable("shut down")) } }
                    return await self.commitEnqueues(jobs)
                },
                endings: GroupCommit(cost: { $0.cost }) { [weak self] endings in
                    guard let self else { return endings.map { _ in .failure(.unavailable("shut down")) } }
                    return await self.commitEndings(endings)
                })
            batchers = made
            return made
        }
    }

    /// Runs `body` on a thread that holds a connection; again when it lost a deadlock, which undid it all.
    func run<T: Sendable>(
        _ name: StaticString, timeout: Duration? = nil,
        _ body: @escaping @Sendable (Connection) throws(PostgresError) -> T
    ) async throws(StoreError) -> T {
        var triesLeft = 3
        while true {
            do {
                return try await database.run(name, timeout: timeout ?? self.timeout, body)
            } catch {
                triesLeft -= 1
                guard error.isRetryable, triesLeft > 0 else { throw StoreError(error) }
            }
        }
    }

    /// The same for a write: when its outcome is not known, watchers are told to look for themselves.
    func write<T: Sendable>(
        _ name: StaticString, _ body: @escaping @Sendable (Connection) throws(PostgresError) -> T
    ) async throws(StoreError) -> T {
        do {
            return try await run(name, body)
        } catch {
            if case .unavailable = error { tell([.uncertain]) }
            throw error
        }
    }

    func runForLease<T: Sendable>(
        _ name: StaticString, timeout: Duration,
        _ body: @escaping @Sendable (Connection) throws(PostgresError) -> T
    ) async throws(StoreError) -> T {
        do {
            return try await leaseDatabase.run(name, timeout: timeout, body)
        } catch {
            throw StoreError(error)
        }
    }

    /// Writes a batch; when the database refuses something in it, its items one by one, so that one bad item
    /// fails alone.
    func commitBatch<Item: Sendable, Outcome: Sendable>(
        _ items: [Item],
        _ commit: ([Item]) async throws(StoreError) -> [Result<Outcome, StoreError>]
    ) async -> [Result<Outcome, StoreError>] {
        do throws(StoreError) {
            return try await commit(items)
        } catch {
            guard case .broken = error, items.count > 1 else { return items.map { _ in .failure(error) } }
        }
        var results: [Result<Outcome, StoreError>] = []
        for item in items { results += await commitBatch([item], commit) }
        return results
    }
}

extension Ending {
    fileprivate var cost: Int {
        if case .final(_, _, let result?) = verdict { 512 + result.data.count } else { 512 }
    }
}
