package import JobModel
import Synchronization

/// The store's tables in memory, with a clock of their own. All nodes of a cluster share one.
package final class ModelDatabase: Sendable {
    private struct State {
        var tables: ModelTables
        var audit: (@Sendable (ModelTables, Timestamp) -> Void)?
    }

    private let state: Mutex<State>
    private let clock: @Sendable () -> Timestamp

    /// - Parameter clock: the database's time, which decides about leases and due times. It must not go back.
    package init(
        _ tables: ModelTables = ModelTables(), clock: @escaping @Sendable () -> Timestamp
    ) {
        state = Mutex(State(tables: tables))
        self.clock = clock
    }

    package var now: Timestamp { clock() }

    /// Calls `audit` after every transaction from now on, while the tables are locked: it must not call this database.
    package func onCommit(_ audit: @escaping @Sendable (ModelTables, Timestamp) -> Void) {
        state.withLock { $0.audit = audit }
    }

    /// Runs `body` alone. It is given the tables and the time.
    package func transaction<R: Sendable>(
        _ body: (inout ModelTables, Timestamp) throws(StoreError) -> R
    ) throws(StoreError) -> R {
        let now = clock()
        return try state.withLock { state throws(StoreError) in
            defer { state.audit?(state.tables, now) }
            return try body(&state.tables, now)
        }
    }

    /// Brings the tables back to an earlier state, as a restore does. It is no transaction.
    package func restore(_ earlier: ModelTables) {
        state.withLock { state in
            let lastNode = state.tables.lastNode
            state.tables = earlier
            state.tables.lastNode = lastNode
        }
    }

    package func read<R: Sendable>(_ body: (ModelTables) -> R) -> R {
        state.withLock { body($0.tables) }
    }
}
