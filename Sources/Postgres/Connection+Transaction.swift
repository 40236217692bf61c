/// The isolation level is given, because its default is a setting of the database.
private let beginStatement = Statement("begin", "BEGIN ISOLATION LEVEL READ COMMITTED")
private let commitStatement = Statement("commit", "COMMIT")
private let rollbackStatement = Statement("rollback", "ROLLBACK")

extension Connection {
    /// Runs all of `queries` in one transaction and one round trip, and returns a result for each. When one
    /// fails, the transaction is rolled back, and the first error is thrown. After `.connection` and `.timeout`
    /// the outcome is unknown.
    package func transaction(_ queries: [Query]) throws(PostgresError) -> [QueryResult] {
        do throws(PostgresError) {
            return try roundTrip(queries, before: beginStatement, after: commitStatement)
        } catch {
            rollBack()
            throw error
        }
    }

    /// Runs `body` in a transaction, which is committed when `body` returns and rolled back when it throws.
    ///
    /// BEGIN is sent with the first statement, and COMMIT with the last one if `body` ends with `commit(with:)`.
    /// Two statements of which the second needs the result of the first then take two round trips.
    package func withTransaction<R>(
        _ body: (inout Transaction) throws(PostgresError) -> R
    ) throws(PostgresError) -> R {
        var transaction = Transaction(self)
        do throws(PostgresError) {
            let value = try body(&transaction)
            if transaction.state != .committed { _ = try transaction.commit(with: []) }
            return value
        } catch {
            rollBack()
            throw error
        }
    }

    /// Rolls back a transaction that failed. A connection on which even that fails is closed.
    func rollBack() {
        guard isInTransaction, !isBroken else { return }
        // The deadline of the work may already have passed.
        let before = deadline
        deadline = .now + .seconds(5)
        defer { deadline = before }
        do throws(PostgresError) {
            _ = try roundTrip([], before: rollbackStatement)
        } catch {
            close()
        }
    }
}

/// An open transaction on a connection, as `withTransaction` lends it.
package struct Transaction: ~Copyable {
    enum State: Equatable {
        /// BEGIN was not sent yet. Becomes `open` with the first statement, or `committed` if there is none.
        case unsent
        /// BEGIN was sent. Becomes `committed`.
        case open
        /// COMMIT was sent. Final.
        case committed
    }

    private let connection: Connection
    private(set) var state = State.unsent

    fileprivate init(_ connection: Connection) {
        self.connection = connection
    }

    /// Runs one statement in one round trip.
    package mutating func execute(
        _ statement: Statement, _ parameters: Parameters = Parameters()
    ) throws(PostgresError) -> QueryResult {
        let results = try execute([Query(statement, parameters)])
        return results[0]
    }

    /// Runs several statements in one round trip.
    package mutating func execute(_ queries: [Query]) throws(PostgresError) -> [QueryResult] {
        try run(queries, commits: false)
    }

    /// Runs the last statements and commits, in one round trip. No statement may follow.
    package mutating func commit(with queries: [Query]) throws(PostgresError) -> [QueryResult] {
        if queries.isEmpty, state == .unsent {
            state = .committed
            return []
        }
        return try run(queries, commits: true)
    }

    private mutating func run(_ queries: [Query], commits: Bool) throws(PostgresError) -> [QueryResult] {
        guard state != .committed else {
            throw PostgresError(.usage, "the transaction was committed already")
        }
        let begin = state == .unsent ? beginStatement : nil
        state = .open
        let results = try connection.roundTrip(queries, before: begin, after: commits ? commitStatement : nil)
        if commits { state = .committed }
        return results
    }
}
