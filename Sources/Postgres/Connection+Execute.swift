import CPQ

extension Connection {
    /// Runs one statement in one round trip, in the open transaction or in one of its own.
    @discardableResult
    package func execute(
        _ statement: Statement, _ parameters: Parameters = Parameters()
    ) throws(PostgresError) -> QueryResult {
        let results = try roundTrip([Query(statement, parameters)])
        return results[0]
    }

    /// Runs statements in one round trip and in one transaction: the open one, or one of their own, which ends with the
    /// pipeline (PostgreSQL manual, 55.2.3). If one fails, none has any effect.
    package func execute(_ queries: [Query]) throws(PostgresError) -> [QueryResult] {
        try roundTrip(queries)
    }

    /// Runs statements without parameters that are separated by `;`, such as migrations. Their results are discarded.
    /// Outside a transaction, a script without BEGIN is one transaction.
    package func executeScript(_ sql: String) throws(PostgresError) {
        let handle = unsafe try openHandle()
        let deadline = deadlineOfThisCall()
        guard unsafe PQexitPipelineMode(handle) == 1 else { throw broken() }
        guard unsafe PQsendQuery(handle, sql) == 1 else { throw broken() }
        try flush(until: deadline)
        var failure: PostgresError?
        while let (status, result) = try nextResult(of: nil, until: deadline) {
            let error = try self.failure(status, result)
            failure = failure ?? error
        }
        try closeIfLost(failure)
        guard unsafe PQenterPipelineMode(handle) == 1 else { throw broken() }
        if let failure { throw failure }
    }

    /// Sends all statements and one Sync, then reads all results: one round trip. If a statement fails, the server skips
    /// the rest, and this throws the first error. `before` and `after` (BEGIN, COMMIT) return no result.
    func roundTrip(
        _ queries: [Query], before: Statement? = nil, after: Statement? = nil
    ) throws(PostgresError) -> [QueryResult] {
        for query in queries {
            guard
                query.parameters.count <= Parameters.countMax,
                query.parameters.byteCount <= Parameters.bytesMax
            else {
                throw PostgresError(
                    .usage,
                    "\(query.parameters.count) parameters of \(query.parameters.byteCount) bytes are too many",
                    statement: query.statement.name)
            }
        }
        let handle = unsafe try openHandle()
        let deadline = deadlineOfThisCall()
        var pending: [Pending] = []
        pending.reserveCapacity(queries.count + 2)
        if let before { pending.append(try send(Query(before), returnsResult: false)) }
        for query in queries { pending.append(try send(query, returnsResult: true)) }
        if let after { pending.append(try send(Query(after), returnsResult: false)) }
        guard unsafe PQpipelineSync(handle) == 1 else { throw broken() }
        try flush(until: deadline)
        return try receive(pending, until: deadline)
    }

    /// A statement that was sent, with the results to expect from the server.
    private struct Pending {
        let key: PreparedStatements.Key
        let parses: Bool
        let returnsResult: Bool
    }

    /// Puts one statement into libpq's buffer, and a Parse before it if this connection has not prepared it.
    private func send(_ query: Query, returnsResult: Bool) throws(PostgresError) -> Pending {
        let handle = unsafe try openHandle()
        let key = PreparedStatements.Key(statement: query.statement, types: query.parameters.types)
        let count = Int32(query.parameters.count)
        var parses = false
        let sent: Int32
        switch prepared.lookUp(key) {
        case .unprepared:
            sent = unsafe query.parameters.withLibpqArrays { values, lengths, formats in
                unsafe PQsendQueryParams(
                    handle, query.statement.sql, count, key.types, values, lengths, formats, 1)
            }
        case .new(let name):
            parses = true
            guard unsafe PQsendPrepare(handle, name, query.statement.sql, count, key.types) == 1 else {
                throw broken()
            }
            fallthrough
        case .prepared(let name):
            sent = unsafe query.parameters.withLibpqArrays { values, lengths, formats in
                unsafe PQsendQueryPrepared(handle, name, count, values, lengths, formats, 1)
            }
        }
        // This fails only if the connection is lost or memory is out. Statements in the buffer cannot be taken
        // back.
        guard sent == 1 else { throw broken() }
        return Pending(key: key, parses: parses, returnsResult: returnsResult)
    }

    private func receive(
        _ pending: [Pending], until deadline: ContinuousClock.Instant
    ) throws(PostgresError) -> [QueryResult] {
        var results: [QueryResult] = []
        results.reserveCapacity(pending.count)
        var failure: PostgresError?
        for item in pending {
            let name = item.key.statement.name
            if item.parses {
                while let (status, result) = try nextResult(of: name, until: deadline) {
                    guard let error = try self.failure(status, result) else { continue }
                    prepared.forget(item.key)
                    failure = failure ?? error
                }
            }
            while let (status, result) = try nextResult(of: name, until: deadline) {
                if let error = try self.failure(status, result) {
                    failure = failure ?? error
                    // The shape of the statement's result changed under DDL, or the server does not know its name
                    // any more.
                    if ["0A000", "26000"].contains(error.sqlState) { prepared.forget(item.key) }
                } else if item.returnsResult {
                    results.append(result)
                }
            }
        }
        try closeIfLost(failure)
        try receiveSync(&failure, until: deadline)
        if let failure { throw failure }
        return results
    }

    /// Reads up to the end of the pipeline. The transaction of a single statement ends here, so a deferred constraint fails
    /// here.
    private func receiveSync(
        _ failure: inout PostgresError?, until deadline: ContinuousClock.Instant
    ) throws(PostgresError) {
        var empty = 0
        while empty < 3 {
            guard let (status, result) = try nextResult(of: nil, until: deadline) else {
                empty += 1
                continue
            }
            if status == PGRES_PIPELINE_SYNC { return }
            let error = try self.failure(status, result)
            failure = failure ?? error
            try closeIfLost(failure)
        }
        throw broken()
    }

    /// The error in a result; `nil` when the statement succeeded. A statement that the server skipped is a failure
    /// too, reported only if nothing before it was.
    private func failure(_ status: ExecStatusType, _ result: QueryResult) throws(PostgresError)
        -> PostgresError?
    {
        switch status {
        case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
            return nil
        case PGRES_PIPELINE_ABORTED:
            return PostgresError(.connection, "the statement was skipped", statement: result.statement)
        case PGRES_FATAL_ERROR:
            return result.error
                ?? PostgresError(.connection, "the connection broke", statement: result.statement)
        default:
            // COPY and replication are not supported, and can only be left by closing the connection.
            close()
            throw PostgresError(.usage, "COPY statements are not supported", statement: result.statement)
        }
    }

    /// Closes the connection if it is lost: no more results will come.
    private func closeIfLost(_ failure: PostgresError?) throws(PostgresError) {
        guard let handle = unsafe handle, unsafe PQstatus(handle) == CONNECTION_BAD else { return }
        let lost = broken()
        throw failure ?? lost
    }
}
