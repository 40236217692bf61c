import Logging
import Postgres
import TestDatabase
import Testing

@Suite struct ConnectionTests {
    private static let insert = Statement("insert", "INSERT INTO t VALUES ($1)")
    private static let count = Statement("count", "SELECT count(*) FROM t")
    private static let divide = Statement("divide", "SELECT 1 / $1::int8")

    private func one(_ value: Int64) -> Parameters {
        Parameters { $0.append(value) }
    }

    /// Runs `body` on a connection to a schema with one table.
    private func withTable(_ body: @escaping @Sendable (Connection) throws -> Void) async throws {
        try await TestDatabase.withSchema { schema in
            try await TestDatabase.onThread {
                let connection = try Connection(schema.connectionConfiguration())
                try connection.executeScript(
                    "CREATE TABLE t (id int8 PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, CHECK (id < 100))")
                try body(connection)
            }
        }
    }

    /// A statement with a name is prepared, one without is not.
    @Test(arguments: ["insert", nil])
    func executesAndCounts(name: String?) async throws {
        let insert = Statement(name, Self.insert.sql)
        try await withTable { connection throws in
            for value in 1...3 {
                #expect(try connection.execute(insert, one(Int64(value))).affectedRows == 1)
            }
            #expect(try connection.execute(Statement("all", "UPDATE t SET id = id + 10")).affectedRows == 3)
            let rows = try connection.execute(Statement("ids", "SELECT id FROM t ORDER BY id"))
            #expect(try rows.map { try $0.int64(0) } == [11, 12, 13])
            #expect(try rows.column("id", as: Int64.self).index == 0)
            #expect { try rows.column("x", as: Int64.self) } throws: {
                ($0 as? PostgresError)?.code == .decoding
            }
        }
    }

    @Test func aNamedStatementIsParsedOncePerTypes() async throws {
        try await withTable { connection throws in
            let echo = Statement("echo", "SELECT $1::text")
            for _ in 0..<3 { _ = try connection.execute(echo, Parameters { $0.append("a") }) }
            #expect(try connection.execute(echo, one(7)).onlyRow.string(0) == "7")
            let names = try connection.execute(Statement(nil, "SELECT count(*) FROM pg_prepared_statements"))
            #expect(try names.onlyRow.int64(0) == 2)
        }
    }

    @Test func aFailureInTheMiddleRollsEverythingBack() async throws {
        try await withTable { connection throws in
            #expect {
                try connection.transaction([
                    Query(Self.insert, one(1)), Query(Self.divide, one(0)), Query(Self.insert, one(2)),
                ])
            } throws: {
                let error = $0 as? PostgresError
                return error?.sqlState == "22012" && error?.statement == "divide"
            }
            #expect(!connection.isInTransaction)
            // The statement whose Parse was skipped is parsed now.
            let results = try connection.transaction([
                Query(Self.insert, one(1)), Query(Self.divide, one(1)), Query(Self.count),
            ])
            #expect(results.count == 3)
            #expect(try results[2].onlyRow.int64(0) == 1)
        }
    }

    @Test func errorsCarryTheConstraint() async throws {
        try await withTable { connection throws in
            #expect { try connection.execute(Self.insert, one(100)) } throws: {
                let error = $0 as? PostgresError
                return error?.sqlState == "23514" && error?.constraint == "t_id_check"
            }
        }
    }

    /// The key is checked at the end of the transaction: at COMMIT, or at the Sync of a lone statement.
    @Test func aDeferredConstraintFailsTheCommit() async throws {
        try await withTable { connection throws in
            _ = try connection.execute(Self.insert, one(1))
            #expect { try connection.execute(Self.insert, one(1)) } throws: {
                ($0 as? PostgresError)?.sqlState == "23505"
            }
            #expect { try connection.transaction([Query(Self.insert, one(1))]) } throws: {
                ($0 as? PostgresError)?.sqlState == "23505"
            }
            #expect(try connection.execute(Self.count).onlyRow.int64(0) == 1)
        }
    }

    @Test func aTransactionUsesItsOwnResults() async throws {
        try await withTable { connection throws in
            let value: Int64 = try connection.withTransaction { transaction throws(PostgresError) in
                let count = try transaction.execute(Self.count).onlyRow.int64(0)
                _ = try transaction.commit(with: [Query(Self.insert, self.one(count + 5))])
                return count
            }
            #expect(value == 0)
            try connection.withTransaction { transaction throws(PostgresError) in
                _ = try transaction.execute(Self.insert, self.one(6))
            }
            try connection.withTransaction { _ throws(PostgresError) in }
            #expect(try connection.execute(Self.count).onlyRow.int64(0) == 2)
            #expect(!connection.isInTransaction)
        }
    }

    @Test func aTransactionThatThrowsIsRolledBack() async throws {
        try await withTable { connection throws in
            #expect {
                try connection.withTransaction { transaction throws(PostgresError) in
                    _ = try transaction.execute(Self.insert, self.one(6))
                    throw PostgresError(.usage, "changed my mind")
                }
            } throws: {
                ($0 as? PostgresError)?.code == .usage
            }
            #expect {
                try connection.withTransaction { transaction throws(PostgresError) in
                    _ = try transaction.commit(with: [])
                    _ = try transaction.execute(Self.count)
                }
            } throws: {
                ($0 as? PostgresError)?.code == .usage
            }
            #expect(try connection.execute(Self.count).onlyRow.int64(0) == 0)
        }
    }

    /// Neither side may wait for the other to read: much is sent while as much comes back.
    @Test func bigParametersInAPipeline() async throws {
        try await withTable { connection throws in
            let blob = [UInt8](repeating: 7, count: 4 << 20)
            let echo = Statement("echo", "SELECT $1::bytea")
            let results = try connection.transaction(
                (0..<8).map { _ in Query(echo, Parameters { $0.append(bytes: blob) }) })
            for result in results { #expect(try result.onlyRow.bytes(0) == blob) }
        }
    }

    @Test func aTimeoutClosesTheConnection() async throws {
        try await withTable { connection throws in
            connection.deadline = .now + .milliseconds(50)
            #expect { try connection.execute(Statement(nil, "SELECT pg_sleep(60)::text")) } throws: {
                ($0 as? PostgresError)?.code == .timeout
            }
            #expect(connection.isBroken)
            #expect { try connection.execute(Self.count) } throws: {
                ($0 as? PostgresError)?.code == .connection
            }
        }
    }

    @Test func sessionSettingsApply() async throws {
        try await TestDatabase.withSchema { schema in
            var configuration = schema.connectionConfiguration()
            configuration.sessionSettings["statement_timeout"] = "10ms"
            try await TestDatabase.onThread { [configuration] in
                let connection = try Connection(configuration)
                #expect { try connection.execute(Statement(nil, "SELECT pg_sleep(60)::text")) } throws: {
                    ($0 as? PostgresError)?.sqlState == "57014"
                }
                #expect(!connection.isBroken)
            }
        }
    }

    @Test func aTerminatedConnectionIsLost() async throws {
        try await withTable { connection throws in
            let end = Statement(nil, "SELECT pg_terminate_backend(pg_backend_pid())")
            #expect { try connection.execute(end) } throws: {
                ($0 as? PostgresError)?.isConnectionLoss == true
            }
            #expect(connection.isBroken)
        }
    }

    @Test func scripts() async throws {
        try await withTable { connection throws in
            try connection.executeScript(
                "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); SELECT * FROM t")
            #expect { try connection.executeScript("INSERT INTO t VALUES (3); SELECT 1 / 0") } throws: {
                ($0 as? PostgresError)?.sqlState == "22012"
            }
            #expect(try connection.execute(Self.count).onlyRow.int64(0) == 2)
            #expect { try connection.execute(Statement("copy", "COPY t TO STDOUT")) } throws: {
                ($0 as? PostgresError)?.code == .usage
            }
            #expect(connection.isBroken)
        }
    }

    @Test func ddlUnderAPreparedStatement() async throws {
        try await withTable { connection throws in
            let all = Statement("all", "SELECT * FROM t")
            _ = try connection.execute(all)
            try connection.executeScript("ALTER TABLE t ADD COLUMN more text")
            // The old plan is refused once, then parsed anew.
            #expect { try connection.execute(all) } throws: { ($0 as? PostgresError)?.sqlState == "0A000" }
            #expect(try connection.execute(all).columnCount == 2)
        }
    }

    @Test func noServer() async throws {
        try await TestDatabase.onThread {
            let configuration = Connection.Configuration(
                connectionString: "host=/nonexistent", applicationName: "tests", logger: .init(label: "tests")
            )
            #expect { try Connection(configuration) } throws: { ($0 as? PostgresError)?.code == .connection }
        }
    }
}
