import Foundation
import Postgres
import TestDatabase
import Testing

@Suite struct TypesTests {
    /// Runs one SELECT whose columns are its parameters, and lends the row.
    private func echo(
        _ types: [String], _ parameters: Parameters, _ body: @escaping @Sendable (Row) throws -> Void
    ) async throws {
        let columns = types.enumerated().map { "$\($0 + 1)::\($1)" }.joined(separator: ", ")
        try await TestDatabase.withSchema { schema in
            try await TestDatabase.onThread {
                let connection = try Connection(schema.connectionConfiguration())
                try body(try connection.execute(Statement("echo", "SELECT \(columns)"), parameters).onlyRow)
            }
        }
    }

    @Test func scalarsRoundTrip() async throws {
        let id = UUID()
        let types = [
            "int2", "int4", "int8", "float8", "bool", "text", "text", "bytea", "bytea", "uuid", "timestamptz",
            "timestamptz", "timestamptz",
        ]
        let parameters = Parameters {
            $0.append(Int16.min)
            $0.append(Int32.min)
            $0.append(Int64.min)
            $0.append(-0.1)
            $0.append(true)
            $0.append("")
            $0.append("grüße 🚂")
            $0.append(bytes: [])
            $0.append(bytes: [0, 255, 1])
            $0.append(id)
            $0.append(timestamp: 1_700_000_000_123_456)
            $0.append(timestamp: -1)
            $0.append(timestamp: .max)
        }
        try await echo(types, parameters) { row throws in
            #expect(try row.int16(0) == .min)
            #expect(try row.int32(1) == .min)
            #expect(try row.int64(2) == .min)
            #expect(try row.double(3) == -0.1)
            #expect(try row.bool(4))
            #expect(try row.string(5) == "")
            #expect(try row.string(6) == "grüße 🚂")
            #expect(try row.bytes(7) == [])
            #expect(try row.bytes(8) == [0, 255, 1])
            #expect(try row.uuid(9) == id)
            #expect(try row.timestamp(10) == 1_700_000_000_123_456)
            #expect(try row.timestamp(11) == -1)
            #expect(try row.timestamp(12) == .max)
        }
    }

    @Test func serverSeesTheSameTime() async throws {
        let parameters = Parameters { $0.append(timestamp: 1_700_000_000_123_456) }
        try await echo(["timestamptz = '2023-11-14 22:13:20.123456Z'"], parameters) { row throws in
            #expect(try row.bool(0))
        }
    }

    @Test func nullsRoundTrip() async throws {
        let types = [
            "int2", "int4", "int8", "float8", "bool", "text", "bytea", "uuid", "timestamptz", "int8[]",
        ]
        let parameters = Parameters {
            $0.append(Int16?.none)
            $0.append(Int32?.none)
            $0.append(Int64?.none)
            $0.append(Double?.none)
            $0.append(Bool?.none)
            $0.append(String?.none)
            $0.append(bytes: nil)
            $0.append(UUID?.none)
            $0.append(timestamp: nil)
            $0.appendNull(arrayOf: .int64)
        }
        try await echo(types, parameters) { row throws in
            #expect(try row.optionalInt16(0) == nil)
            #expect(try row.optionalInt32(1) == nil)
            #expect(try row.optionalInt64(2) == nil)
            #expect(try row.optionalDouble(3) == nil)
            #expect(try row.optionalBool(4) == nil)
            #expect(try row.optionalString(5) == nil)
            #expect(try row.optionalBytes(6) == nil)
            #expect(try row.optionalUUID(7) == nil)
            #expect(try row.optionalTimestamp(8) == nil)
            #expect(try row.optionalString(9) == nil)
            #expect { try row.int64(2) } throws: { ($0 as? PostgresError)?.code == .decoding }
            #expect { try row.int64Array(9) } throws: { ($0 as? PostgresError)?.code == .decoding }
        }
    }

    @Test func bigArraysRoundTrip() async throws {
        let count = 10_000
        let integers = (0..<count).map { Int64($0) * 1_000_003 - 5_000_000_000 }
        let strings = integers.map { "«\($0)»" }
        let blobs = (0..<count).map { [UInt8](repeating: UInt8($0 % 251), count: $0 % 40) }
        let ids = (0..<count).map { _ in UUID() }
        let types = [
            "int4[]", "int8[]", "float8[]", "bool[]", "text[]", "bytea[]", "uuid[]", "timestamptz[]",
            "int8[]",
        ]
        let parameters = Parameters {
            $0.append(integers.map { Int32(truncatingIfNeeded: $0) })
            $0.append(integers)
            $0.append(integers.map { Double($0) / 3 })
            $0.append(integers.map { $0 % 2 == 0 })
            $0.append(strings)
            $0.append(byteArrays: blobs)
            $0.append(ids)
            $0.append(timestamps: integers)
            $0.append([Int64]())
        }
        try await echo(types, parameters) { row throws in
            #expect(try row.int64Array(1) == integers)
            #expect(try row.stringArray(4) == strings)
            #expect(try row.uuidArray(6) == ids)
            #expect(try row.int64Array(8) == [])
        }
        // As the server takes them apart.
        let unnest = types.enumerated().map { "$\($0 + 1)::\($1)" }.joined(separator: ", ")
        try await TestDatabase.withSchema { schema in
            try await TestDatabase.onThread {
                let connection = try Connection(schema.connectionConfiguration())
                let rows = try connection.execute(
                    Statement("unnest", "SELECT * FROM unnest(\(unnest))"), parameters)
                #expect(rows.count == count)
                for (index, row) in rows.enumerated() {
                    try #require(try row.int32(0) == Int32(truncatingIfNeeded: integers[index]))
                    try #require(try row.int64(1) == integers[index])
                    try #require(try row.double(2) == Double(integers[index]) / 3)
                    try #require(try row.bool(3) == (integers[index] % 2 == 0))
                    try #require(try row.string(4) == strings[index])
                    try #require(try row.bytes(5) == blobs[index])
                    try #require(try row.uuid(6) == ids[index])
                    try #require(try row.timestamp(7) == integers[index])
                    try #require(try row.optionalString(8) == nil)
                }
            }
        }
    }

    @Test func arraysWithNullsReachTheServer() async throws {
        let id = UUID()
        let parameters = Parameters {
            $0.append([Int16(1), nil, 2])
            $0.append([Int32(1), nil, 2])
            $0.append([Int64(1), nil, 2])
            $0.append([1.5, nil])
            $0.append([Bool?.none, true])
            $0.append([String?.none, ""])
            $0.append([id, nil])
            $0.append(byteArrays: [nil, [7]])
            $0.append(timestamps: [nil, 0])
        }
        let arrays = ["int2[]", "int4[]", "int8[]", "float8[]", "bool[]", "text[]", "uuid[]", "bytea[]"]
        let types = arrays.map { "\($0)::text" } + ["timestamptz[] = ARRAY[NULL, to_timestamp(0)]"]
        try await echo(types, parameters) { row throws in
            #expect(try row.string(0) == "{1,NULL,2}")
            #expect(try row.string(1) == "{1,NULL,2}")
            #expect(try row.string(2) == "{1,NULL,2}")
            #expect(try row.string(3) == "{1.5,NULL}")
            #expect(try row.string(4) == "{NULL,t}")
            #expect(try row.string(5) == #"{NULL,""}"#)
            #expect(try row.string(6) == "{\(id.uuidString.lowercased()),NULL}")
            #expect(try row.string(7) == #"{NULL,"\\x07"}"#)
            #expect(try row.bool(8))
            #expect { try row.int64Array(0) } throws: { ($0 as? PostgresError)?.code == .decoding }
        }
    }

    @Test func gettersRefuseOtherTypesAndColumns() async throws {
        try await echo(
            ["text", "int2"],
            Parameters {
                $0.append("1"); $0.append(Int16(-3))
            }
        ) {
            row throws in
            #expect { try row.int64(0) } throws: { ($0 as? PostgresError)?.code == .decoding }
            #expect { try row.string(1) } throws: { ($0 as? PostgresError)?.code == .decoding }
            #expect { try row.string(2) } throws: { ($0 as? PostgresError)?.code == .decoding }
            #expect { try row.string(-1) } throws: { ($0 as? PostgresError)?.code == .decoding }
            // Narrower integers widen.
            #expect(try row.int64(1) == -3)
            #expect(try row.int32(1) == -3)
        }
    }
}
