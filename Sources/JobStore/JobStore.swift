// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

package import JobModel
import Logging
package import Postgres
import Synchronization

/// Keeps everything that the service stores, in Postgres. All SQL statements are in this module, and decisions
/// are made elsewhere.
///
/// It passes what it commits to one observer, once it is durable (`LocalChange`).
package final class JobStore: EngineStore {
    package struct Configuration: Sendable {
        /// The channel for NOTIFY. It contains the schema's name, so services in other schemas of the database
        /// are not notified.
        package var notifyChannel = "signalbox"
        /// The time after which an operation fails.
        package var timeout: Duration = .seconds(10)

        package init() {}
    }

    /// The settings of every session of the store.
    package static let sessionSettings = [
        // Limits are exact because a claim counts in a snapshot that it takes after it has locked the lanes.
        "default_transaction_isolation": "read committed",
        // A node that is frozen in the middle of a transaction must not hold locks.
        "idle_in_transaction_session_timeout": "5s",
        // One that has gone, in the middle of a message too: the server notices within 11 s. They have no effect on a Unix
        // socket.
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "10s",
        // The role may have a shorter one, which many commits at once exceed.
        "lock_timeout": "5s",
        // This is less than the store's timeout, so that a statement that was given up is not committed much
        // later.
        "statement_timeout": "9s",
        // Compiling a plan takes longer than any statement of the store.
        "jit": "off",
        // A plan that was made while a table was empty reads the whole table, and may be kept long after the
        // table was filled. Every frequent statement can use an index.
        "enable_seqscan": "off",
        // Statements read few rows of an index, and building a bitmap takes longer than fetching them.
        "enable_bitmapscan": "off",
        // With custom plans, each statement would be planned again, which takes longer than running it.
        "plan_cache_mode": "force_generic_plan",
    ]

    /// The statements that every session of the store begins with, after its settings.
    package static let sessionStatements = [Statement.holdSchema, .holdPromises]

    private struct Node {
        var id = NodeID.none
        var name = ""
        /// The numbers of the kinds that it has announced.
        var kinds: [String: Int32] = [:]
    }

    /// The functions are in a struct, because a function that a `Mutex` holds directly is wrapped once more at
    /// each access.
    private struct Observers {
        var onCommit: (@Sendable ([LocalChange]) -> Void)?
        /// The reference is weak, because a starter holds this store.
        weak var starter: (any RunStarter)?
    }

    let catalog = Catalog()
    let closedLanes = ClosedLanes()
    let notifyChannel: String
    private let database: Database
    private let leaseDatabase: Database
    private let timeout: Duration
    private let node = Mutex(Node())
    private let observers = Mutex(Observers())
    let enqueues = GroupCommit<NewJob, EnqueueOutcome>(cost: { $0.spec.bytes })
    let existingJobs = GroupCommit<ExistingJob, JobRecord>(limits: ExistingJob.limits)
    /// The bytes of the batches that are being written. They are not bounded by a group commit.
    let batchBytes = Mutex(0)
    let finishedRuns = GroupCommit<FinishedRun, FinishResult>(cost: { $0.cost })
    let runUpdates = GroupCommit<[RunUpdate], Void>(cost: { $0.reduce(0) { $0 + $1.cost } })

    /// - Parameter leaseDatabase: one connection to the same database, only for the renewal of leases.
    package init(
        database: Database, leaseDatabase: Database, configuration: Configuration = Configuration()
    ) {
        self.database = database
        self.leaseDatabase = leaseDatabase
        notifyChannel = configuration.notifyChannel
        timeout = configuration.timeout
    }

    /// Calls `observer` with every commit from now on, on a thread of the store. It must not block, and must not
    /// hold this store.
    package func observe(_ observer: @escaping @Sendable ([LocalChange]) -> Void) {
        observers.withLock { $0.onCommit = observer }
    }

    /// Offers jobs to `starter` as they are enqueued. It starts those that it can. It is held weakly, and is
    /// called on a thread of the store, so it must not block.
    package func startJobs(with starter: any RunStarter) {
        observers.withLock { $0.starter = starter }
    }

    var starter: (any RunStarter)? { observers.withLock { $0.starter } }

    /// This node's number in the database, once it is registered; 0 before.
    package var nodeNumber: Int32 { node.withLock(\.id.number) }
    var nodeID: NodeID { node.withLock(\.id) }
    var nodeName: String { node.withLock(\.name) }
    var nodeAndKinds: (node: NodeID, kinds: [String: Int32]) { node.withLock { ($0.id, $0.kinds) } }

    func setNode(_ id: NodeID, name: String, kinds: [String: Int32]) {
        node.withLock { $0 = Node(id: id, name: name, kinds: kinds) }
    }

    /// Has no effect if the node has registered again meanwhile.
    func setKinds(_ kinds: [String: Int32], of id: NodeID) {
        node.withLock { if $0.id == id { $0.kinds = kinds } }
    }

    func publish(_ changes: [LocalChange]) {
        guard !changes.isEmpty else { return }
        observers.withLock(\.onCommit)?(changes)
    }

    /// Runs `body` on a thread that holds a connection.
    ///
    /// - Parameters:
    ///   - isLong: for reads whose time grows with their result. However many are called, some connections are
    ///     left to enqueue, claim and finish.
    ///   - isInterruptible: cancelling the task stops the statement.
    ///   - retries: runs `body` again when it lost a deadlock.
    func run<T: Sendable>(
        _ name: StaticString, timeout: Duration? = nil, isLong: Bool = false, isInterruptible: Bool = false,
        retries: Bool = true,
        _ body: @escaping @Sendable (Connection) throws(PostgresError) -> T
    ) async throws(StoreError) -> T {
        do {
            return try await database.run(
                name, timeout: timeout ?? self.timeout, isLong: isLong, isInterruptible: isInterruptible
            ) { connection throws(PostgresError) in
                try Self.retrying(triesMax: retries ? 3 : 1) { () throws(PostgresError) in
                    try body(connection)
                }
            }
        } catch {
            throw StoreError(error)
        }
    }

    /// Runs a read for a caller: when its task is cancelled, its statement is stopped.
    func read<T: Sendable>(
        _ name: StaticString, timeout: Duration? = nil, isLong: Bool = false,
        _ body: @escaping @Sendable (Connection) throws(PostgresError) -> T
    ) async throws(StoreError) -> T {
        try await run(name, timeout: timeout, isLong: isLong, isInterruptible: true, body)
    }

    /// Runs a write. If its outcome is unknown, watchers are made to read the change from the database.
    func write<T: Sendable>(
        _ name: StaticString, retries: Bool = true,
        _ body: @escaping @Sendable (Connection) throws(PostgresError) -> T
    ) async throws(StoreError) -> T {
        do {
            return try await run(name, retries: retries, body)
        } catch {
            if case .unavailable = error { publish([.uncertain]) }
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

    /// Writes the items that wait in `group`, batch after batch, on a thread that holds a connection, so that
    /// there is no hop between two commits. After some batches it queues again for a connection, behind other
    /// work. `afterwards` is called after each batch, once its completions were called.
    func startWriter<Item, Outcome>(
        _ group: GroupCommit<Item, Outcome>,
        _ commit:
            @escaping @Sendable ([Item], Connection) throws(PostgresError) -> [Result<Outcome, StoreError>],
        afterwards: @escaping @Sendable () -> Void = {}
    ) {
        // Items that have waited for so long fail because the database is unavailable; newer items keep waiting.
        let deadline = (group.oldest ?? .now) + timeout
        database.perform(deadline: deadline) { [self] outcome in
            switch outcome {
            case .success(let connection):
                for _ in 0..<Self.batchesInARow {
                    guard let batch = group.nextBatch() else { return }
                    connection.deadline = .now + timeout
                    batch.finish(commitBatch(batch.items, connection, commit))
                    afterwards()
                    if connection.isBroken { break }
                }
            case .failure(let error):
                // At a shutdown, all items fail, because waiting longer does not help.
                let isOver = error.code == .shutdown
                let since: ContinuousClock.Instant = isOver ? .now : .now - timeout
                guard group.refuse(waitingSince: since, StoreError(error)) else { return }
            }
            startWriter(group, commit, afterwards: afterwards)
        }
    }

    private static let batchesInARow = 16

    /// Writes a batch. If the database refuses one of its items, the halves are written separately, and so on, so
    /// that a bad item fails alone: among 2,000 items it is found with 22 more commits.
    private func commitBatch<Item, Outcome>(
        _ items: [Item], _ connection: Connection,
        _ commit: ([Item], Connection) throws(PostgresError) -> [Result<Outcome, StoreError>]
    ) -> [Result<Outcome, StoreError>] {
        do throws(PostgresError) {
            return try Self.retrying { () throws(PostgresError) in try commit(items, connection) }
        } catch {
            let failure = StoreError(error)
            if case .unavailable = failure { publish([.uncertain]) }
            guard case .broken = failure, items.count > 1 else { return items.map { _ in .failure(failure) } }
        }
        let middle = items.count / 2
        return commitBatch(Array(items[..<middle]), connection, commit)
            + commitBatch(Array(items[middle...]), connection, commit)
    }

    /// Runs `body` again if it lost a deadlock, which rolled back everything.
    private static func retrying<T>(
        triesMax: Int = 3, _ body: () throws(PostgresError) -> T
    ) throws(PostgresError) -> T {
        var triesLeft = triesMax
        while true {
            do {
                return try body()
            } catch {
                triesLeft -= 1
                guard error.isRetryable, triesLeft > 0 else { throw error }
            }
        }
    }
}

extension FinishedRun {
    fileprivate var cost: Int {
        if case .final(_, _, let result?) = verdict { 512 + result.data.count } else { 512 }
    }
}
