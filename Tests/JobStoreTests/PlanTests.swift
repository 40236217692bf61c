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

    private static let caller = Caller(name: "", source: .token, address: "", users: .only(["u"]))
    private static let id = JobID.version7(at: .now)

    private static let lanes = Planned(
        LockLanes(after: 0, lanesMax: 32, defaultUserLimit: 3, node: .none, kinds: [1, 2], scannedMax: 2000))
    private static let claim = Planned(
        ClaimRuns(
            node: 1, kinds: [1, 2], lanes: [1, 2, 3, 4], userLimits: [3, 3, 3, 3], firstKinds: [1, 1, 1, 1],
            lastKinds: [2, 2, 2, 2], slots: 16, share: 4))
    private static let start = Planned(
        InsertJobs.start,
        InsertJobs(
            node: .none, jobs: [], names: JobNames([], []), digests: [], callers: JobCallers([]), offer: nil))
    private static let finish = Planned(FinishRuns([], node: 1))
    private static let giveBack = Planned(ReturnRuns([], node: 1))
    private static let progress = Planned(
        SaveProgress(
            node: 1, numbers: [1], tokens: [1], startedAts: [], attempts: [1], stages: [], fractions: [],
            messages: [],
            done: [], totals: [], step: [], steps: [], updatedAt: []))
    private static let log = Planned(
        SaveLog(
            node: 1, numbers: [1], tokens: [1], startedAts: [], lines: [1], times: [], attempts: [],
            levels: [], messages: [])
    )
    private static let trimLog = Planned(TrimLog(numbers: [1], tokens: [1], startedAts: [], firstLines: [1]))
    private static let cancel = Planned(
        CancelJob(node: 1, id: id, note: "", expectedSequence: 1, caller: caller))
    private static let jobs = Planned(FindJobs(ids: [], resultBytesMax: 0, users: .only(["u"])))
    private static let ofUser = Planned(
        SnapshotJobs.ofUsers,
        SnapshotJobs(
            users: .only(["u"]), queue: nil, after: 0, scannedMax: 50_000, size: 1000, lanesMax: 10_000))
    private static let ofQueue = Planned(
        SnapshotJobs.ofQueue,
        SnapshotJobs(users: .all, queue: "q", after: 0, scannedMax: 50_000, size: 1000, lanesMax: 10_000))
    private static let byID = [
        Planned(RetryJob(node: 1, id: id, expectedSequence: 0, caller: caller)),
        Planned(FindNumbers(ids: [], users: .only(["u"]))), Planned(FindSequences(numbers: [])),
        Planned(FindPayloadSize(id: id, users: .only(["u"]))),
    ]
    private static let pending = [
        Planned(CountPending.jobs, CountPending(users: ["u", "v"], jobsMax: 1000)),
        Planned(CountPending.jobsAndBytes, CountPending(users: ["u", "v"], jobsMax: 1000)),
    ]
    private static let ofUsers = list(ListJobs.ofUsers, .only(["u", "v"]), scannedMax: 10_000, share: 5000)
    private static let counts = Planned(CountQueues(queues: [1, 2], lanesMax: 1000, scannedMax: 1000))
    private static let limits = [ListUserLimits.all, ListUserLimits.ofUsers].map {
        Planned($0, ListUserLimits(users: .only(["u"]), queue: nil, after: 0, size: 50))
    }
    private static let trimAudit = Planned(TrimAudit(retentionMilliseconds: 1000, countMax: 1000))
    private static let events = Planned(FindEvents(after: [1: 0]))

    private static let prepare =
        ([
            lanes, claim, start, finish, giveBack, progress, log, trimLog, cancel, jobs, ofUser, ofQueue,
            ofUsers,
            trimAudit, events, counts,
        ] + byID + pending + limits).map(\.prepare).joined() + "SET signalbox.locked_lanes = '1,2';"

    private static func list(
        _ statement: ParameterizedStatement<ListJobs>, _ users: UserScope, scannedMax: Int64, share: Int64 = 0
    ) -> Planned {
        Planned(
            statement,
            ListJobs(
                users: users, queue: nil, kinds: [], states: [], labels: nil, createdFrom: nil,
                createdTo: nil,
                before: 1_000_000, scannedMax: scannedMax, size: 20, share: share))
    }

    private static let analyze = "(ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)"

    /// The tables that lists read, and no others: there are those of tests that are about having no statistics.
    private static let analyzeLists = "ANALYZE job, live, finished, history, progress, lane, queue, kind;"

    private func expectIndexes(_ connection: Connection, _ comment: Comment) throws {
        let lanes = try Self.lanes.plan(connection)
        #expect(lanes.contains("live_ready") && !lanes.contains("Seq Scan on live"), "\(comment): \(lanes)")
        let claim = try Self.claim.plan(connection)
        #expect(claim.contains("live_ready"), "\(comment): \(claim)")
        #expect(claim.contains("live_running"), "\(comment): \(claim)")
        #expect(claim.contains("Tid Scan on live") && !claim.contains("Seq Scan"), "\(comment): \(claim)")
        for sql in [
            Self.finish, Self.giveBack, Self.progress, Self.log, Self.trimLog, Self.jobs, Self.cancel,
        ] + Self.byID + Self.pending {
            expectConditions(try sql.plan(connection), comment)
        }
        let start = try Self.start.plan(connection)
        #expect(start.contains("live_ready") && start.contains("live_running"), "\(comment): \(start)")
        #expect(!start.contains("Seq Scan"), "\(comment): \(start)")
        for (sql, lanes) in [(Self.ofUser, "lane_user_id_queue_key"), (Self.ofQueue, "lane_queue")] {
            let snapshot = try sql.plan(connection)
            for index in [lanes, "live_ready", "live_running", "live_scheduled_lane"] {
                #expect(snapshot.contains(index), "\(comment): \(snapshot)")
            }
            #expect(!snapshot.contains("Seq Scan"), "\(comment): \(snapshot)")
        }
        for sql in Self.pending {
            let pending = try sql.plan(connection)
            for index in ["lane_user_id_queue_key", "live_ready", "live_scheduled_lane"] {
                #expect(pending.contains(index), "\(comment): \(pending)")
            }
            #expect(!pending.contains("Seq Scan"), "\(comment): \(pending)")
        }
        let ofUsers = try Self.ofUsers.plan(connection)
        #expect(ofUsers.split(separator: "job_user").count == 3, "\(comment): \(ofUsers)")
        expectConditions(ofUsers, comment)
        let counts = try Self.counts.plan(connection)
        for index in ["lane_queue", "live_ready", "live_running", "live_scheduled_lane", "finished_at"] {
            #expect(counts.contains(index), "\(comment): \(counts)")
        }
        #expect(!counts.contains("Seq Scan"), "\(comment): \(counts)")
        for sql in Self.limits {
            let limits = try sql.plan(connection)
            #expect(!limits.contains("Seq Scan"), "\(comment): \(limits)")
        }
        let trim = try Self.trimAudit.plan(connection)
        #expect(trim.contains("Tid Scan") && trim.contains("audit_entry_pkey"), "\(comment): \(trim)")
        let events = try Self.events.plan(connection)
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
        list(ListJobs.all, .all, scannedMax: 10_000), list(ListJobs.ofUser, .only(["u"]), scannedMax: 10_000),
    ])
    func listEndsWithItsPage(_ list: Planned) async throws {
        try await Bench.with { bench in
            _ = try await bench.store.enqueueBatch(
                (0..<3000).map { _ in NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now) })
            let connection = try Connection(bench.schema.connectionConfiguration())
            for (name, value) in JobStore.sessionSettings {
                try connection.executeScript("SET \(name) = '\(value)'")
            }
            for _ in 0..<2 {
                try connection.executeScript(list.prepare)
                let shown = try list.plan(connection, Self.analyze)
                #expect(!shown.contains("rows=3000") && !shown.contains("Seq Scan"), "\(shown)")
                try connection.executeScript("DEALLOCATE \(list.name);" + Self.analyzeLists)
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
            _ = try Self.ofUsers.plan(connection)
            _ = try await bench.store.enqueueBatch(
                (0..<3000).map { number in
                    NewJob(
                        spec: JobSpec(kind: "k", userID: number < 100 ? "u" : number < 200 ? "v" : "other"),
                        now: .now)
                })
            for _ in 0..<2 {
                let shown = try Self.list(
                    ListJobs.ofUsers, .only(["u", "v"]), scannedMax: 60, share: 30
                ).plan(connection, Self.analyze)
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
            let insert = "INSERT INTO change (node, jobs, lanes, sequences) VALUES (2, '{1}', '{1}', '{1}')"
            for _ in 0..<200 { try connection.executeScript(insert) }
            let text = try connection.execute(.openChanges).onlyRow.string(0)
            let snapshot = try #require(ChangeSnapshot(text, at: .now, takenAt: .now))
            for _ in 0..<3 { try connection.executeScript(insert) }
            let read = Planned(
                ReadChanges(
                    xmax: snapshot.xmax, xip: snapshot.xip, untilXmax: String(UInt64.max), untilXip: [],
                    afterXID: 0, afterID: 0, node: 1, includesJobs: true, includesOwn: false, anchorID: 0,
                    anchorAt: nil, countMax: 200))
            try connection.executeScript(read.prepare)
            let shown = try read.plan(connection, Self.analyze)
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
            let claim = try Self.claim.plan(connection)
            expectConditions(claim, "a deep lane")
            #expect(claim.contains("Tid Scan on live "), "\(claim)")
        }
    }

    /// A list of limits reads those that were set, and not every lane.
    @Test func limitsOfManyLanes() async throws {
        try await withTables { connection in
            try connection.executeScript(
                """
                INSERT INTO queue (name) VALUES ('q');
                INSERT INTO lane (queue, user_id, user_limit)
                SELECT 1, 'u' || i, CASE WHEN i % 1000 = 0 THEN 1 END FROM generate_series(1, 5000) i;
                ANALYZE lane;
                """)
            try connection.executeScript(Self.limits[0].prepare)
            let plan = try Self.limits[0].plan(connection, Self.analyze)
            #expect(plan.contains("lane_user_limit") && !plan.contains("Removed by Filter: 4"), "\(plan)")
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
