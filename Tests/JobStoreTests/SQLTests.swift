import Foundation
import Postgres
import TestDatabase
import Testing

@testable import JobStore

@Suite struct SQLTests {
    private struct Find: Command {
        let ids: [Int64]
        let name: String
        let bytes: [UInt8]?

        static let statement = ParameterizedStatement<Self>(
            "find",
            """
            SELECT id, \(\.name) AS name, \(\.bytes) AS bytes, \(twice) AS twice
            FROM unnest(\(\.ids)) AS t (id) WHERE \(limited("id")) AND \(\.name) <> '' ORDER BY id
            """)

        private static let twice = Parameter<Self>("twice") { Int64(2 * $0.ids.count) }

        private static func limited(_ column: String) -> SQL<Self> {
            "\(sql: column) < \(twice) AND \(sql: column) = ANY (\(\.ids))"
        }
    }

    /// Parameters have numbers in the order of their first use, and one number however often they are used.
    @Test func parametersNumberThemselves() {
        #expect(
            Find.statement.sql == """
                SELECT id, $1 AS name, $2 AS bytes, $3 AS twice
                FROM unnest($4) AS t (id) WHERE id < $3 AND id = ANY ($4) AND $1 <> '' ORDER BY id
                """)
        #expect(Find.statement.parameterTypes == [25, 17, 20, 1016])
        #expect(Find.statement.bind(Find(ids: [1], name: "n", bytes: nil)).types == [25, 17, 20, 1016])
    }

    @Test func columnsAreFoundByName() async throws {
        try await TestDatabase.withSchema { schema in
            try await TestDatabase.onThread {
                let connection = try Connection(schema.connectionConfiguration())
                let result = try connection.execute(Find(ids: [1, 2, 9], name: "n", bytes: [7]))
                // In another order than the statement returns them.
                let twice: Column<Int64> = try result.column("twice")
                let bytes: Column<[UInt8]?> = try result.column("bytes")
                let name: Column<String> = try result.column("name")
                let id: Column<Int64> = try result.column("id")
                #expect(try result.map { try $0[id] } == [1, 2])
                #expect(try result.allSatisfy { try $0[name] == "n" && $0[bytes] == [7] && $0[twice] == 6 })
            }
        }
    }

    /// What a column cannot give is an error that names the column and the statement.
    @Test func wrongColumnsAreErrors() async throws {
        try await TestDatabase.withSchema { schema in
            try await TestDatabase.onThread {
                let connection = try Connection(schema.connectionConfiguration())
                let result = try connection.execute(Find(ids: [1], name: "n", bytes: nil))
                let row = try result.onlyRow
                func message(_ body: () throws(PostgresError) -> Void) -> String {
                    do throws(PostgresError) { try body() } catch { return error.description }
                    return ""
                }
                let missing = message { () throws(PostgresError) in
                    _ = try result.column("none", as: Int64.self)
                }
                #expect(missing.contains("the result has no column none") && missing.contains("find"))
                let null = message { () throws(PostgresError) in
                    _ = try row[result.column("bytes", as: [UInt8].self)]
                }
                #expect(null.contains("column bytes is NULL"))
                let type = message { () throws(PostgresError) in
                    _ = try row[result.column("name", as: Int64.self)]
                }
                #expect(type.contains("column name holds another type"))
                #expect(try row[result.column("bytes", as: [UInt8]?.self)] == nil)
            }
        }
    }

    /// A value of another type than the column's is refused when the statement is prepared.
    @Test func wrongParameterTypesAreErrors() async throws {
        struct Mistake: Command {
            let id: String
            static let statement = ParameterizedStatement<Self>("mistake", "SELECT 1 WHERE 1::int8 = \(\.id)")
        }
        try await TestDatabase.withSchema { schema in
            try await TestDatabase.onThread {
                let connection = try Connection(schema.connectionConfiguration())
                #expect { try connection.execute(Mistake(id: "1")) } throws: {
                    ($0 as? PostgresError)?.sqlState == "42883"
                }
            }
        }
    }
}
