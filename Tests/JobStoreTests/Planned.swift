import JobModel
import Postgres
import TestDatabase

@testable import JobStore

/// A statement of the store with values for its parameters, for tests that prepare it by SQL.
struct Planned: Sendable, CustomStringConvertible {
    let name: String
    /// The statement that prepares it, with the types that the store declares.
    let prepare: String
    private let parameters: Parameters

    var description: String { name }

    init<Input>(_ statement: ParameterizedStatement<Input>, _ input: Input) {
        let types = statement.parameterTypes.map { Self.typeNames[$0] ?? "unknown" }
        name = statement.statement.name ?? "unnamed"
        prepare = "PREPARE \(name) (\(types.joined(separator: ", "))) AS \(statement.sql);"
        parameters = statement.bind(input)
    }

    init<Input: Command>(_ command: Input) {
        self.init(Input.statement, command)
    }

    /// The plan, line by line. Its parameters are those of the input, as literals that the server has made of them.
    func plan(_ connection: Connection, _ options: String = "") throws(PostgresError) -> String {
        let values = (0..<parameters.count).map { "quote_nullable($\($0 + 1)::text)" }
        let literals = try connection.execute(
            Statement(nil, "SELECT concat_ws(', ', \(values.joined(separator: ", ")))"), parameters)
        let arguments = try literals.onlyRow.string(0)
        let explain = Statement(nil, "EXPLAIN \(options) EXECUTE \(name) (\(arguments))")
        var lines: [String] = []
        for row in try connection.execute(explain) { lines.append(try row.string(0)) }
        return lines.joined(separator: "\n")
    }

    private static let typeNames: [UInt32: String] = [
        16: "boolean", 17: "bytea", 20: "bigint", 21: "smallint", 23: "integer", 25: "text",
        701: "double precision",
        1184: "timestamp with time zone", 2950: "uuid", 1000: "boolean[]", 1001: "bytea[]", 1016: "bigint[]",
        1005: "smallint[]", 1007: "integer[]", 1009: "text[]", 1022: "double precision[]",
        1185: "timestamp with time zone[]", 2951: "uuid[]",
    ]
}
