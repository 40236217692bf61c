import JobModel
import Postgres
import Support
import TestDatabase
import Testing

@testable import JobStore

/// Who has changed what: one row for each change, by the transaction that makes it.
@Suite struct AuditTests {
    private let ada = Caller(name: "ada", source: .token, address: "10.0.0.1:1234", users: .all)
    private let bob = Caller(name: "bob", source: .jwt, address: "[::1]:99", users: .only(["u", "v"]))

    /// The view, without the time, as text.
    private func audit(_ bench: Bench, _ condition: String = "true") async throws -> [String] {
        try await bench.texts(
            """
            SELECT concat_ws(' ', caller, source, address, action, job::text, queue, user_id, user_limit::text) FROM audit
            WHERE \(condition) ORDER BY at, action, job
            """)
    }

    private func refusal(_ body: () async throws -> Void) async -> StoreError? {
        do {
            try await body()
            return nil
        } catch {
            return error as? StoreError
        }
    }

    @Test func eachChangeOfAJob() async throws {
        try await Bench.with { bench in
            let store = bench.store
            let spec = JobSpec(kind: "k", userID: "u")
            let first = try await store.enqueue(NewJob(spec: spec, now: .now, by: ada)).job.id
            #expect(try await audit(bench) == ["ada token 10.0.0.1:1234 enqueue \(first)"])
            _ = try await store.cancel(first, note: "secret note", by: bob)
            // It is final: nothing changes.
            _ = try await store.cancel(first, note: "", by: ada)
            _ = try await store.retry(first, by: bob)
            #expect(await refusal { _ = try await store.retry(first, by: ada) } == .wrongState(.pending))
            let run = try #require(try await bench.claim().first)
            _ = try await store.cancel(first, note: "", by: ada)
            // It is asked to stop already.
            _ = try await store.cancel(first, note: "", by: bob)
            try await bench.finish(run, .cancelled)
            #expect(
                try await audit(bench) == [
                    "ada token 10.0.0.1:1234 enqueue \(first)", "bob jwt [::1]:99 cancel \(first)",
                    "bob jwt [::1]:99 retry \(first)", "ada token 10.0.0.1:1234 cancel \(first)",
                ])
            let kept = try await bench.texts("SELECT e::text FROM audit_entry e")
            #expect(kept.count == 4 && !kept.contains { $0.contains("secret") })
            #expect(
                try await bench.count("audit WHERE at BETWEEN now() - interval '1 minute' AND now()") == 4)
        }
    }

    /// As many rows in the view as there are jobs; in the table as few as there are callers.
    @Test(arguments: [false, true])
    func manyCallersShareACommit(_ mayConflict: Bool) async throws {
        try await Bench.with { bench in
            // Some differ in nothing but how they are known.
            let callers = (0..<5).map {
                Caller(
                    name: "c\($0 % 3)", source: $0 < 3 ? .token : .jwt, address: "h:\($0 % 3)", users: .all)
            }
            let jobs = (0..<100).map { number in
                NewJob(
                    spec: JobSpec(
                        kind: "k", userID: "u\(number % 7)",
                        idempotencyKey: mayConflict && number % 2 == 0 ? "key\(number)" : nil),
                    now: .now, by: callers[number * number % 5])
            }
            _ = try await bench.database.run("commit") { connection throws(PostgresError) in
                try bench.store.commitEnqueues(jobs, connection).count
            }
            let wanted = jobs.map {
                "\($0.caller.name) \($0.caller.source) \($0.caller.address) enqueue \($0.id)"
            }
            #expect(try await Set(audit(bench)) == Set(wanted))
            #expect(try await bench.count("audit") == 100)
            #expect(try await bench.count("audit_entry") == Set(jobs.map(\.caller)).count)
        }
    }

    /// What was there before is not added, and not in the audit.
    @Test func repeatsAreNoChanges() async throws {
        try await Bench.with { bench in
            let store = bench.store
            let keyed = JobSpec(kind: "k", userID: "u", idempotencyKey: "a")
            let named = JobSpec(kind: "k", userID: "u", jobID: .version7(milliseconds: 1, random: (0, 1)))
            let fresh = JobSpec(kind: "k", userID: "u")
            var ids: [JobID] = []
            for spec in [keyed, named] {
                ids.append(try await store.enqueue(NewJob(spec: spec, now: .now, by: ada)).job.id)
                _ = try await store.enqueue(NewJob(spec: spec, now: .now, by: bob))
            }
            var other = named
            other.priority = 1
            let refused = NewJob(spec: other, now: .now, by: bob)
            #expect(await refusal { _ = try await store.enqueue(refused) } == .conflict(ids[1], index: 0))
            // All or none, and so none.
            let batch = [fresh, other, keyed].map { NewJob(spec: $0, now: .now, by: bob) }
            #expect(await refusal { _ = try await store.enqueueBatch(batch) } == .conflict(ids[1], index: 1))
            let rows = try await audit(bench)
            #expect(rows == ids.map { "ada token 10.0.0.1:1234 enqueue \($0)" })
            let mixed = [fresh, named, keyed, named].map { NewJob(spec: $0, now: .now, by: bob) }
            _ = try await store.enqueueBatch(mixed)
            #expect(try await audit(bench, "caller = 'bob'") == ["bob jwt [::1]:99 enqueue \(mixed[0].id)"])
            #expect(try await bench.count("audit") == 3)
            #expect(try await bench.count("job") == 3)
        }
    }

    @Test func aBatchIsOneEntry() async throws {
        try await Bench.with { bench in
            for key in [nil, "key"] {
                let jobs = (0..<3000).map { number in
                    NewJob(
                        spec: JobSpec(kind: "k", userID: "u", idempotencyKey: key.map { "\($0)\(number)" }),
                        now: .now, by: ada)
                }
                _ = try await bench.store.enqueueBatch(jobs)
            }
            #expect(try await bench.count("audit_entry") == 2)
            #expect(try await bench.count("audit JOIN job ON job.id = audit.job") == 6000)
        }
    }

    /// As when they start with their commit.
    @Test(arguments: [nil, "key"])
    func jobsThatStartAtOnce(_ key: String?) async throws {
        try await Bench.with { bench in
            let starter = StartTests.Starter(bench)
            let spec = JobSpec(kind: "k", userID: "u", idempotencyKey: key.map { ExactText($0) })
            let id = try await bench.store.enqueue(NewJob(spec: spec, now: .now, by: ada)).job.id
            #expect(starter.runs.count == 1)
            #expect(try await audit(bench) == ["ada token 10.0.0.1:1234 enqueue \(id)"])
            // What the workers do is nobody's call.
            try await bench.finish(try #require(starter.runs.first), .success)
            #expect(try await bench.count("audit") == 1)
        }
    }

    @Test func eachChangeOfQueuesAndLimits() async throws {
        try await Bench.with { bench in
            let store = bench.store
            for isPaused in [true, true, false, false] {
                try await store.setPaused(isPaused, queue: "q", by: ada)
            }
            for limit in [5, 5, 6] { try await store.setQueueLimit(limit, queue: "q", by: .settings) }
            for limit in [2, 2, nil, nil] {
                try await store.setUserLimit(limit, userID: "u", queue: "r", by: bob)
            }
            #expect(
                try await audit(bench) == [
                    "ada token 10.0.0.1:1234 pause_queue q", "ada token 10.0.0.1:1234 resume_queue q",
                    "settings settings  set_queue_limit q 5", "settings settings  set_queue_limit q 6",
                    "bob jwt [::1]:99 set_user_limit r u 2", "bob jwt [::1]:99 set_user_limit r u",
                ])
            #expect(try await bench.count("audit WHERE job IS NOT NULL") == 0)
        }
    }

    /// What is undone of a queue or user that nobody knows is no change, and makes neither known.
    @Test func whatWasNeverSetIsNotUndone() async throws {
        try await Bench.with { bench in
            let store = bench.store
            try await bench.enqueue()
            try await store.setPaused(false, queue: "nowhere", by: ada)
            try await store.setUserLimit(nil, userID: "u", queue: "nowhere", by: ada)
            try await store.setUserLimit(nil, userID: "nobody", queue: "default", by: ada)
            #expect(try await bench.texts("SELECT name FROM queue") == ["default"])
            #expect(try await bench.texts("SELECT user_id FROM lane") == ["u"])
            #expect(try await bench.count("audit") == 1)
            let limit = try await store.userLimit(userID: "nobody", queue: "nowhere", default: 3)
            #expect(limit.maxRunning == 3 && !limit.isOverridden)
            // They can be set before there is a job.
            try await store.setPaused(true, queue: "later", by: ada)
            try await store.setUserLimit(0, userID: "nobody", queue: "later", by: ada)
            #expect(try await bench.count("audit") == 3)
            #expect(try await store.userLimit(userID: "nobody", queue: "later", default: 3).maxRunning == 0)
        }
    }

    /// A change that cannot be in the audit does not take place.
    @Test func noChangeWithoutItsRow() async throws {
        try await Bench.with { bench in
            let store = bench.store
            let waiting = try await bench.enqueue()
            let cancelled = try await bench.enqueue()
            _ = try await store.cancel(cancelled.id, note: "")
            try await store.setPaused(true, queue: "paused", by: ada)
            let before = try await bench.count("audit")
            try await bench.script(
                "ALTER TABLE audit_entry ADD CONSTRAINT nothing_any_more CHECK (caller = 'nobody') NOT VALID")
            let spec = JobSpec(kind: "k", userID: "u")
            let changes: [() async throws -> Void] = [
                { _ = try await store.enqueue(NewJob(spec: spec, now: .now, by: ada)) },
                { _ = try await store.enqueueBatch([NewJob(spec: spec, now: .now, by: ada)]) },
                { _ = try await store.cancel(waiting.id, note: "", by: ada) },
                { _ = try await store.retry(cancelled.id, by: ada) },
                { try await store.setPaused(false, queue: "paused", by: ada) },
                { try await store.setPaused(true, queue: "default", by: ada) },
                { try await store.setQueueLimit(7, queue: "default", by: ada) },
                { try await store.setUserLimit(7, userID: "u", queue: "default", by: ada) },
            ]
            for (index, change) in changes.enumerated() {
                guard case .broken? = await refusal(change) else {
                    Issue.record("change \(index)")
                    continue
                }
            }
            #expect(try await bench.count("audit") == before)
            #expect(try await bench.count("job") == 2)
            #expect(try await bench.job(waiting.id).state == .pending)
            #expect(try await bench.job(cancelled.id).state == .cancelled)
            #expect(try await bench.count("queue WHERE paused OR user_limit IS NOT NULL") == 1)
            #expect(try await bench.count("lane WHERE user_limit IS NOT NULL") == 0)
        }
    }

    /// Names come from outside.
    @Test func namesThatTheDatabaseWouldNotTake() async throws {
        try await Bench.with { bench in
            let odd = Caller(
                name: "a\0'; DROP TABLE job; --" + String(repeating: "é", count: 300), source: .token,
                address: "h:1" + String(repeating: "x", count: 300), users: .all)
            let (other, same) = ("\u{E9}", "e\u{301}")
            for caller in [
                odd, Caller(name: other, source: .token, address: "", users: .all),
                Caller(name: same, source: .token, address: "", users: .all),
            ] {
                _ = try await bench.store.enqueue(
                    NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now, by: caller))
            }
            let names = try await bench.texts("SELECT caller FROM audit ORDER BY at")
            #expect(names[0].hasPrefix("a\u{FFFD}'; DROP TABLE job; --é") && names[0].utf8.count <= 256)
            #expect(names[1].hasSameBytes(as: other) && names[2].hasSameBytes(as: same))
            #expect(try await bench.count("audit_entry WHERE octet_length(address) <= 64") == 3)
        }
    }

    /// An older program that runs beside a newer one does not say how it knows.
    @Test func entriesWithoutASource() async throws {
        try await Bench.with { bench in
            try await bench.script(
                "INSERT INTO audit_entry (caller, address, action, queue) VALUES ('old', 'a:1', 'pause_queue', 'q')"
            )
            #expect(try await audit(bench) == ["old a:1 pause_queue q"])
        }
    }

    @Test func writtenOnce() async throws {
        try await Bench.with { bench in
            try await bench.enqueue()
            #expect(try await bench.refusal(of: "UPDATE audit_entry SET caller = 'x'")?.state == "23000")
            for values in [
                "'c', 'a', 'enqueue', NULL, NULL, NULL, NULL", "'c', 'a', 'enqueue', '{}', NULL, NULL, NULL",
                "'c', 'a', 'enqueue', ARRAY[gen_random_uuid()], 'q', NULL, NULL",
                "'c', 'a', 'enqueue', ARRAY[gen_random_uuid()], NULL, 'u', NULL",
                "'c', 'a', 'pause_queue', NULL, 'q', NULL, 1",
            ] {
                let insert = """
                    INSERT INTO audit_entry (caller, address, action, jobs, queue, user_id, user_limit)
                    VALUES (\(values))
                    """
                #expect(try await bench.refusal(of: insert)?.state == "23514", "\(values)")
            }
        }
    }

    // MARK: Retention

    @Test func onlyWhatIsOldIsRemoved() async throws {
        try await Bench.with { bench in
            for name in ["old", "new"] {
                let caller = Caller(name: name, source: .token, address: "", users: .all)
                _ = try await bench.store.enqueueBatch(
                    (0..<3).map { _ in NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now, by: caller) })
            }
            #expect(try await bench.store.trimAudit(olderThan: .seconds(60), atMost: 1000) == 0)
            try await bench.script(
                """
                ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_immutable;
                UPDATE audit_entry SET at = at - interval '91 days' WHERE caller = 'old';
                ALTER TABLE audit_entry ENABLE TRIGGER audit_entry_immutable
                """)
            #expect(try await bench.store.trimAudit(olderThan: .seconds(92 * 86_400), atMost: 1000) == 0)
            #expect(try await bench.store.trimAudit(olderThan: .seconds(90 * 86_400), atMost: 1000) == 1)
            #expect(try await bench.texts("SELECT caller FROM audit") == ["new", "new", "new"])
            // The jobs have a retention of their own.
            #expect(try await bench.count("job") == 6)
        }
    }

    @Test func boundedAtOnceAndOldestFirst() async throws {
        try await Bench.with { bench in
            try await bench.script(
                """
                INSERT INTO audit_entry (at, caller, address, action, queue)
                SELECT now() - i * interval '1 hour', i::text, '', 'pause_queue', 'q'
                FROM generate_series(1, \(1000 + 500)) i
                """)
            let removed = try await bench.store.trimAudit(olderThan: .seconds(60), atMost: 1000)
            #expect(removed == 1000)
            #expect(try await bench.texts("SELECT max(caller::int)::text FROM audit") == ["500"])
            #expect(try await bench.store.trimAudit(olderThan: .seconds(60), atMost: 1000) == 500)
        }
    }

    /// Two nodes do it in turn.
    @Test func oneAtATime() async throws {
        try await Bench.with { bench in
            try await bench.script(
                """
                INSERT INTO audit_entry (at, caller, address, action, queue)
                VALUES (now() - interval '1 hour', '', '', 'pause_queue', 'q')
                """)
            let holder = try Connection(bench.schema.connectionConfiguration())
            try holder.executeScript(
                "BEGIN; SELECT pg_advisory_xact_lock('audit_entry'::regclass::oid::bigint << 32)")
            #expect(try await bench.store.trimAudit(olderThan: .seconds(60), atMost: 1000) == 0)
            try holder.executeScript("COMMIT")
            #expect(try await bench.store.trimAudit(olderThan: .seconds(60), atMost: 1000) == 1)
        }
    }
}
