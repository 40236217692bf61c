import JobModel
import Postgres
import Support
import TestDatabase
import Testing

@testable import JobStore

/// The statements of a claim, and those that look for live jobs, use their indexes, whatever the planner knows of the
/// tables.
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
        PREPARE claim (int, int[], bigint[], int[], int, int[], int[], int) AS \(Statement.claimRuns.sql);
        SET signalbox.locked_lanes = '1,2';
        PREPARE start (
            int, uuid[], bigint[], text[], int[], smallint[], int[], timestamptz[], bigint[], bigint[], bigint[],
            bigint[], float8[], bigint[], float8[], text[], text[], bytea[], text[], bytea[], text[], text[], text[],
            int[], int[], int, bigint)
            AS \(Statement.insertAndStartJobs.sql);
        PREPARE finish (int, bigint[], bigint[], text[], text[], text[], bytea[], text[]) AS \(Statement.finishRuns.sql);
        PREPARE progress (
            int, bigint[], bigint[], int[], text[], float8[], text[], int[], int[], timestamptz[])
            AS \(Statement.saveProgress.sql);
        PREPARE log (int, bigint[], bigint[], bigint[], timestamptz[], int[], text[], text[])
            AS \(Statement.saveLog.sql);
        PREPARE trim_log (bigint[], bigint[], bigint[]) AS \(Statement.trimLog.sql);
        PREPARE jobs (uuid[], int, text[]) AS \(Statement.findJobs.sql);
        PREPARE cancel (int, uuid, text, text[], text, text, text) AS \(Statement.cancelJob.sql);
        PREPARE give_back (int, bigint[], bigint[], text[], text[], text[], bigint[], bool[])
            AS \(Statement.returnRuns.sql);
        PREPARE of_user (text[], text, bigint, bigint, bigint, bigint) AS \(Statement.snapshotJobsOfUsers.sql);
        PREPARE of_queue (text[], text, bigint, bigint, bigint, bigint) AS \(Statement.snapshotJobsOfQueue.sql);
        PREPARE events (bigint[], bigint[], bigint, int) AS \(Statement.findEvents.sql);
        PREPARE retry (int, uuid, text[], text, text, text) AS \(Statement.retryJob.sql);
        PREPARE places (uuid[], text[]) AS \(Statement.findPlaces.sql);
        PREPARE payload_size (uuid, text[]) AS \(Statement.findPayloadSize.sql);
        PREPARE count_pending (text[], bigint) AS \(Statement.countPending.sql);
        PREPARE sum_pending (text[], bigint) AS \(Statement.sumPending.sql);
        PREPARE of_users (
            text[], text, text, text[], text, timestamptz, timestamptz, bigint, bigint, bigint, bigint)
            AS \(Statement.listJobsOfUsers.sql);
        PREPARE trim_audit (bigint, bigint) AS \(Statement.trimAudit.sql);
        """

    /// The tables that lists read, and no others: there are those of tests that are about having no statistics.
    private static let analyzeLists = "ANALYZE job, live, finished, history, progress, lane, queue, kind;"

    private static let lanes = "EXPLAIN EXECUTE lanes (0, 32, 3, 1, '{1,2}', 2000)"
    private static let claim =
        "EXPLAIN EXECUTE claim (1, '{1,2}', '{1,2,3,4}', '{3,3,3,3}', 16, '{1,1,1,1}', '{2,2,2,2}', 4)"

    private static let start =
        "EXPLAIN EXECUTE start (1, \(Array(repeating: "'{}'", count: 23).joined(separator: ",")), '{1}', 3, 16)"

    private static let finish = "EXPLAIN EXECUTE finish (1, '{1}', '{1}', '{}', '{}', '{}', '{}', '{}')"
    private static let giveBack = "EXPLAIN EXECUTE give_back (1, '{1}', '{1}', '{}', '{}', '{}', '{}', '{}')"

    private static let progress =
        "EXPLAIN EXECUTE progress (1, '{1}', '{1}', '{1}', '{}', '{}', '{}', '{}', '{}', '{}')"
    private static let log = "EXPLAIN EXECUTE log (1, '{1}', '{1}', '{1}', '{}', '{}', '{}', '{}')"
    private static let trimLog = "EXPLAIN EXECUTE trim_log ('{1}', '{1}', '{1}')"
    private static let cancel =
        "EXPLAIN EXECUTE cancel (1, '00000000-0000-0000-0000-000000000000', '', '{u}', '', '', 'token')"
    private static let jobs = "EXPLAIN EXECUTE jobs ('{}', 0, '{u}')"

    private static let ofUser = "EXPLAIN EXECUTE of_user ('{u}', NULL, 0, 50000, 1000, 10000)"
    private static let ofQueue = "EXPLAIN EXECUTE of_queue (NULL, 'q', 0, 50000, 1000, 10000)"
    private static let byID = [
        "EXPLAIN EXECUTE retry (1, '00000000-0000-0000-0000-000000000000', '{u}', '', '', 'token')",
        "EXPLAIN EXECUTE places ('{}', '{u}')",
        "EXPLAIN EXECUTE payload_size ('00000000-0000-0000-0000-000000000000', '{u}')",
    ]
    private static let pending = [
        "EXPLAIN EXECUTE count_pending ('{u,v}', 1000)", "EXPLAIN EXECUTE sum_pending ('{u,v}', 1000)",
    ]
    private static let ofUsers =
        "EXPLAIN EXECUTE of_users ('{u,v}', NULL, NULL, '{}', NULL, NULL, NULL, 1000000, 10000, 20, 5000)"
    private static let trimAudit = "EXPLAIN EXECUTE trim_audit (1000, 1000)"
    private static let events = "EXPLAIN EXECUTE events ('{1}', '{0}', 1000, 1000)"

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
        #expect(claim.contains("Tid Scan on live") && !claim.contains("Seq Scan"), "\(comment): \(claim)")
        for sql in [
            Self.finish, Self.giveBack, Self.progress, Self.log, Self.trimLog, Self.jobs, Self.cancel,
        ] + Self.byID + Self.pending {
            expectConditions(try plan(connection, sql), comment)
        }
        let start = try plan(connection, Self.start)
        #expect(start.contains("live_ready") && start.contains("live_running"), "\(comment): \(start)")
        #expect(!start.contains("Seq Scan"), "\(comment): \(start)")
        for (sql, lanes) in [(Self.ofUser, "lane_user_id_queue_key"), (Self.ofQueue, "lane_queue")] {
            let snapshot = try plan(connection, sql)
            for index in [lanes, "live_ready", "live_running", "live_scheduled_lane"] {
                #expect(snapshot.contains(index), "\(comment): \(snapshot)")
            }
            #expect(!snapshot.contains("Seq Scan"), "\(comment): \(snapshot)")
        }
        for sql in Self.pending {
            let pending = try plan(connection, sql)
            for index in ["lane_user_id_queue_key", "live_ready", "live_scheduled_lane"] {
                #expect(pending.contains(index), "\(comment): \(pending)")
            }
            #expect(!pending.contains("Seq Scan"), "\(comment): \(pending)")
        }
        let ofUsers = try plan(connection, Self.ofUsers)
        #expect(ofUsers.split(separator: "job_user").count == 3, "\(comment): \(ofUsers)")
        expectConditions(ofUsers, comment)
        let trim = try plan(connection, Self.trimAudit)
        #expect(trim.contains("Tid Scan") && trim.contains("audit_entry_pkey"), "\(comment): \(trim)")
        let events = try plan(connection, Self.events)
        #expect(events.contains("live_pkey") && !events.contains("live_running"), "\(comment): \(events)")
    }

    /// Nothing of what grows is read from end to end.
    private func expectConditions(_ plan: String, _ comment: Comment) {
        let lines = plan.split(separator: "\n")
        for (line, next) in zip(lines, lines.dropFirst()) where line.contains("Scan ") {
            let tables = ["job", "live", "finished", "progress", "log_line"]
            guard tables.contains(where: { line.contains(" on \($0) ") }) else { continue }
            #expect(next.contains("Cond:"), "\(comment): \(line) reads it all: \(plan)")
        }
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

    /// Of the jobs that a page of a list may look at, only as many as it returns.
    @Test(arguments: [
        (Statement.listJobs.sql, "NULL"), (Statement.listJobsOfUser.sql, "'{u}'"),
    ])
    func listEndsWithItsPage(_ sql: String, _ user: String) async throws {
        try await Bench.with { bench in
            _ = try await bench.store.enqueueBatch(
                (0..<3000).map { _ in NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now) })
            let connection = try Connection(bench.schema.connectionConfiguration())
            for (name, value) in JobStore.sessionSettings {
                try connection.executeScript("SET \(name) = '\(value)'")
            }
            for _ in 0..<2 {
                try connection.executeScript(
                    """
                    PREPARE list (text[], text, text, text[], text, timestamptz, timestamptz, bigint, bigint, bigint)
                        AS \(sql)
                    """)
                let shown = try plan(
                    connection,
                    """
                    EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
                    EXECUTE list (\(user), NULL, NULL, '{}', NULL, NULL, NULL, 1000000, 10000, 20)
                    """)
                #expect(!shown.contains("rows=3000") && !shown.contains("Seq Scan"), "\(shown)")
                try connection.executeScript("DEALLOCATE list;" + Self.analyzeLists)
            }
        }
    }

    /// Of each of several users no more than their share, however much there is of others.
    @Test func listOfUsersLooksAtTheirShare() async throws {
        try await Bench.with { bench in
            let connection = try Connection(bench.schema.connectionConfiguration())
            for (name, value) in JobStore.sessionSettings {
                try connection.executeScript("SET \(name) = '\(value)'")
            }
            try connection.executeScript(Self.prepare)
            // The plan is made while there is nothing.
            _ = try plan(connection, Self.ofUsers)
            _ = try await bench.store.enqueueBatch(
                (0..<3000).map { number in
                    NewJob(
                        spec: JobSpec(kind: "k", userID: number < 100 ? "u" : number < 200 ? "v" : "other"),
                        now: .now)
                })
            for _ in 0..<2 {
                let shown = try plan(
                    connection,
                    """
                    EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE of_users (
                        '{u,v}', NULL, NULL, '{}', NULL, NULL, NULL, 1000000, 60, 20, 30)
                    """)
                // The first 20 of each, until there are as many as the page has; and one entry in the index for each of
                // those that may be looked at.
                let scans = shown.split(separator: "\n").filter { $0.contains("job_user on job") }
                #expect(scans.count == 2, "\(shown)")
                #expect(scans.first?.contains("(actual rows=20 loops=2)") == true, "\(shown)")
                #expect(scans.last?.contains("Index Only Scan") == true, "\(shown)")
                #expect(scans.last?.contains("(actual rows=30 loops=2)") == true, "\(shown)")
                expectConditions(shown, "a list of users")
                try connection.executeScript("DEALLOCATE ALL;" + Self.analyzeLists + Self.prepare)
            }
        }
    }

    /// However long a transaction elsewhere holds back what every snapshot sees.
    @Test func changesThatWereReadAreNotLookedAtAgain() async throws {
        try await Bench.with { bench in
            let open = try Connection(bench.schema.connectionConfiguration())
            try open.executeScript("BEGIN; SELECT pg_current_xact_id()")
            let connection = try Connection(bench.schema.connectionConfiguration())
            for (name, value) in JobStore.sessionSettings {
                try connection.executeScript("SET \(name) = '\(value)'")
            }
            try connection.executeScript(
                """
                PREPARE changes (text, text[], text, text[], bigint, bigint, int, bool, bigint, bool)
                    AS \(Statement.readChanges.sql)
                """)
            let insert = "INSERT INTO change (node, jobs, lanes, sequences) VALUES (2, '{1}', '{1}', '{1}')"
            for _ in 0..<200 { try connection.executeScript(insert) }
            let text = try connection.execute(.openChanges).onlyRow.string(0)
            let snapshot = try #require(ChangeSnapshot(text, takenAt: .now))
            for _ in 0..<3 { try connection.executeScript(insert) }
            let shown = try plan(
                connection,
                """
                EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE changes (
                    '\(snapshot.xmax)', '{\(snapshot.xip.joined(separator: ","))}', '\(UInt64.max)', '{}', 0, 0, 1,
                    true, 200, false)
                """)
            #expect(!snapshot.xip.isEmpty)
            #expect(shown.contains("rows=3 ") && !shown.contains("Removed"), "\(shown)")
            try open.executeScript("ROLLBACK")
        }
    }

    /// From a lane with much in it the planner concluded that all of `job` and `live` is to be read.
    @Test func countedWithOneDeepLane() async throws {
        try await withTables { connection in
            try connection.executeScript(
                """
                INSERT INTO job (
                    id, lane, user_id, kind, priority, max_attempts, due_at, retry_initial_ms, retry_factor,
                    retry_max_ms, retry_jitter, content_type, payload)
                SELECT gen_random_uuid(), 1, 'u', 1, 0, 3, now(), 1, 1, 1, 0, 'x/y', ''
                FROM generate_series(1, 20000);
                INSERT INTO live (number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts)
                SELECT number, 1, 1, 0, 'ready', due_at, 1, 0, 3 FROM job;
                ANALYZE job, live
                """)
            try connection.executeScript("SET plan_cache_mode = force_generic_plan;" + Self.prepare)
            let claim = try plan(connection, Self.claim)
            expectConditions(claim, "a deep lane")
            #expect(claim.contains("Tid Scan on live "), "\(claim)")
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
