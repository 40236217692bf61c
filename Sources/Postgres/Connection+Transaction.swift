/// The level is named, because the default is the database's to choose.
private let beginStatement = Statement("begin", "BEGIN ISOLATION LEVEL READ COMMITTED")
private let commitStatement = Statement("commit", "COMMIT")
private let rollbackStatement = Statement("rollback", "ROLLBACK")

extension Connection {
    /// Runs all of `queries` in one transaction and one round trip, and returns a result for each. When one fails,
    /// nothing has happened, and the first error is thrown; except that after `.connection` and `.timeout`
    /// nobody knows.
    package func transaction(_ queries: [Query]) throws(PostgresError) -> [QueryResult] {
        do throws(PostgresError) {
            return try roundTrip(queries, before: beginStatement, after: commitStatement)
        } catch {
            rollBack()
            throw error
        }
    }

    /// Runs `body` in a transaction: committed when it returns, rolled back when it throws.
    ///
    /// BEGIN travels with the first statement, and COMMIT with the last if `body` ends with `commit(with:)`:
    /// two statements of which the second needs the result of the first then take two round trips.
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

    /// Leaves a transaction that failed. A connection on which even that fails is closed.
    func rollBack() {
        guard isInTransaction, !isBroken else { return }
        // The deadline of the work may have been used up.
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

/// A transaction that is open on a connection, for the length of `withTransaction`.
package struct Transaction: ~Copyable {
    enum State: Equatable {
        /// BEGIN was not sent yet. Leaves to `open` with the first statement, to `committed` without any.
        case unsent
        /// Leaves to `committed`.
        case open
        /// Final.
        case committed
    }

    private let connection: Connection
    private(set) var state = State.unsent

    fileprivate init(_ connection: Connection) {
        self.connection = connection
    }

    /// Runs one statement. One round trip.
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

    /// Runs the last statements and commits, in one round trip. Nothing may follow.
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
