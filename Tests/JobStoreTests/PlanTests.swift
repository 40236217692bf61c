import JobCore
import Postgres
import TestDatabase
import Testing

@testable import JobStore

/// The statements of a claim use their indexes, whatever the planner knows of the tables.
@Suite struct PlanTests {
    private static let fill = """
        INSERT INTO live (number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts)
        SELECT i, 1 + i % 500, 1, 0, 'ready', now(), 1, 0, 3 FROM generate_series(1, 50000) i;
        INSERT INTO live (
            number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts, token, node, started_at)
        SELECT i, 1 + i % 500, 1, 0, 'running', now(), 2, 1, 3, i, 1, now()
        FROM generate_series(50001, 51000) i;
        """

    private static let prepare = """
        PREPARE lanes (bigint, int, int, int, int[], int) AS \(Statement.lockLanes.sql);
        PREPARE claim (int, int[], bigint[], int[], int) AS \(Statement.claimRuns.sql);
        SET signalbox.locked_lanes = '1,2';
        PREPARE start (
            int, uuid[], bigint[], text[], int[], smallint[], int[], timestamptz[], bigint[], bigint[], bigint[],
            bigint[], float8[], bigint[], float8[], text[], text[], bytea[], text[], bytea[], int[], int, bigint)
            AS \(Statement.insertAndStartJobs.sql);
        """

    private static let lanes = "EXPLAIN EXECUTE lanes (0, 32, 3, 1, '{1,2}', 2000)"
    private static let claim = "EXPLAIN EXECUTE claim (1, '{1,2}', '{1,2,3,4}', '{3,3,3,3}', 16)"

    private static let start =
        "EXPLAIN EXECUTE start (1, \(Array(repeating: "'{}'", count: 19).joined(separator: ",")), '{1}', 3, 16)"

    private func plan(_ connection: Connection, _ sql: String) throws(PostgresError) -> String {
        var lines: [String] = []
        for row in try connection.execute(Statement(nil, sql)) { lines.append(try row.string(0)) }
        return lines.joined(separator: "\n")
    }

    private func expectIndexes(_ connection: Connection, _ comment: Comment) throws {
        let lanes = try plan(connection, Self.lanes)
        #expect(lanes.contains("live_ready") && !lanes.contains("Seq Scan on live"), "\(comment): \(lanes)")
        let claim = try plan(connection, Self.claim)
        #expect(claim.contains("live_ready"), "\(comment): \(claim)")
        #expect(claim.contains("live_running"), "\(comment): \(claim)")
        #expect(!claim.contains("Seq Scan on live"), "\(comment): \(claim)")
        let start = try plan(connection, Self.start)
        #expect(start.contains("live_ready") && start.contains("live_running"), "\(comment): \(start)")
        #expect(!start.contains("Seq Scan"), "\(comment): \(start)")
    }

    private func withTables(_ body: (Connection) throws -> Void) async throws {
        try await Bench.with { bench in
            // Nothing else may count rows meanwhile.
            try await bench.script("ALTER TABLE live SET (autovacuum_enabled = false)")
            let connection = try Connection(bench.schema.connectionConfiguration())
            for (name, value) in JobStore.sessionSettings {
                try connection.executeScript("SET \(name) = '\(value)'")
            }
            try body(connection)
        }
    }

    @Test(arguments: ["force_custom_plan", "force_generic_plan"])
    func withoutStatistics(_ mode: String) async throws {
        try await withTables { connection in
            try connection.executeScript("SET plan_cache_mode = \(mode);" + Self.prepare)
            try connection.executeScript(Self.fill)
            try expectIndexes(connection, "never counted")
        }
    }

    /// Plans made while the table was empty, and kept by the connection.
    @Test func keptFromAnEmptyTable() async throws {
        try await withTables { connection in
            try connection.executeScript("VACUUM ANALYZE live")
            try connection.executeScript("SET plan_cache_mode = force_generic_plan;" + Self.prepare)
            try expectIndexes(connection, "empty")
            try connection.executeScript(Self.fill)
            try expectIndexes(connection, "kept")
        }
    }

    @Test(arguments: ["force_custom_plan", "force_generic_plan"])
    func countedWhenEmpty(_ mode: String) async throws {
        try await withTables { connection in
            try connection.executeScript(Self.fill)
            try connection.executeScript("DELETE FROM live")
            try connection.executeScript("VACUUM ANALYZE live")
            try connection.executeScript("SET plan_cache_mode = \(mode);" + Self.prepare)
            try connection.executeScript(Self.fill)
            try expectIndexes(connection, "counted when empty")
        }
    }

    @Test func counted() async throws {
        try await withTables { connection in
            try connection.executeScript(Self.fill)
            try connection.executeScript("ANALYZE live")
            try connection.executeScript("SET plan_cache_mode = force_generic_plan;" + Self.prepare)
            try expectIndexes(connection, "counted")
        }
    }
}
