import JobModel
import JobStore
import Support
import Testing

/// An older node beside a newer one: its schema and rows have values that this version does not know. What they belong to
/// is left alone, and the error names them.
@Suite struct FutureValueTests {
    /// Adds a value to an enum, as a newer migration would.
    private func add(_ value: String, to type: String, _ bench: Bench) async throws {
        try await bench.script("ALTER TYPE \(type) ADD VALUE '\(value)'")
    }

    /// The text of the error of a bug or an unknown value; nil for success and any other error.
    private func failure(_ body: () async throws -> Void) async -> String? {
        do {
            try await body()
            return nil
        } catch StoreError.broken(let text) {
            return text
        } catch {
            return nil
        }
    }

    /// A job that waits in the state `blocked`.
    private func blocked(_ bench: Bench) async throws -> JobRecord {
        try await add("blocked", to: "live_state", bench)
        let job = try await bench.enqueue()
        try await bench.script("UPDATE live SET state = 'blocked' WHERE number = \(job.number)")
        return job
    }

    @Test func stateOfALiveJob() async throws {
        try await Bench.with { bench in
            let job = try await blocked(bench)
            let other = try await bench.enqueue()
            let store = bench.store
            let reads: [(String, () async throws -> Void)] = [
                ("job", { _ = try await store.job(job.id) }),
                ("history", { _ = try await store.jobWithHistory(job.id, payload: false) }),
                ("list", { _ = try await store.list(JobFilter(), before: nil, size: 10) }),
                ("snapshot", { _ = try await store.liveJobs([other.number, job.number]) }),
                ("cancel", { _ = try await store.cancel(job.id, note: "") }),
                ("retry", { _ = try await store.retry(job.id) }),
            ]
            for (name, read) in reads {
                let text = await failure(read)
                #expect(
                    text?.contains("state \"blocked\" of job \(job.id)") == true, "\(name): \(text ?? "")")
            }
            // It is in no list of a state that it does not have.
            var pending = JobFilter()
            pending.states = [.pending, .running]
            #expect(try await store.list(pending, before: nil, size: 10).jobs.map(\.id) == [other.id])
            let stats = try #require(try await store.countedQueues().first?.stats)
            #expect(stats.pending == 1 && stats.running == 0)
            // Nodes go on with the others.
            #expect(try await store.promoteDue().promoted == 0)
            #expect(try await bench.claim().map(\.key.id) == [other.id])
            #expect(
                try await bench.count("live WHERE state = 'blocked' AND sequence = 1 AND attempt = 0") == 1)
            #expect(try await bench.count("finished") == 0)
        }
    }

    /// The newer version's state has a run.
    @Test func stateOfALiveJobWithARun() async throws {
        try await Bench.with { bench in
            try await add("draining", to: "live_state", bench)
            try await bench.script("ALTER TABLE live DROP CONSTRAINT running_has_token_node_start")
            try await bench.script("ALTER TABLE live DROP CONSTRAINT cancel_request_needs_run")
            let run = try await bench.start()
            try await bench.script("UPDATE live SET state = 'draining'")
            let text = await failure { _ = try await bench.store.cancel(run.key.id, note: "") }
            #expect(text?.contains("state \"draining\" of job \(run.key.id)") == true)
            #expect(try await bench.count("live WHERE cancel_requested_at IS NULL") == 1)
        }
    }

    /// Those who repeat a request share a statement: the others have their answers.
    @Test func repeatedRequestsOfOthersAreAnswered() async throws {
        try await Bench.with(connections: 1) { bench in
            try await add("blocked", to: "live_state", bench)
            let specs = (0..<20).map { JobSpec(kind: "k", userID: "u", idempotencyKey: "key\($0)") }
            let jobs = try await bench.store.enqueueBatch(specs.map { NewJob(spec: $0, now: .now) })
            let unknown = jobs[7].id
            try await bench.script(
                "UPDATE live SET state = 'blocked' WHERE number = (SELECT number FROM job WHERE id = '\(unknown)')"
            )
            let texts = await withTaskGroup(of: String?.self) { group in
                for spec in specs {
                    group.addTask {
                        await failure { _ = try await bench.store.enqueue(NewJob(spec: spec, now: .now)) }
                    }
                }
                return await group.reduce(into: [String]()) { if let text = $1 { $0.append(text) } }
            }
            #expect(texts.count == 1 && texts[0].contains("state \"blocked\" of job \(unknown)"))
        }
    }

    @Test func stateOfAFinalJob() async throws {
        try await Bench.with { bench in
            try await add("expired", to: "final_state", bench)
            let job = try await bench.enqueue()
            let other = try await bench.enqueue()
            try await bench.script(
                """
                DELETE FROM live WHERE number = \(job.number);
                INSERT INTO finished (number, state, sequence, attempt, max_attempts, finished_at, reason)
                VALUES (\(job.number), 'expired', 2, 0, 3, now(), 'expired')
                """)
            for read in [
                { _ = try await bench.store.job(job.id) },
                { _ = try await bench.store.cancel(job.id, note: "") },
                { _ = try await bench.store.retry(job.id) },
            ] as [() async throws -> Void] {
                #expect(await failure(read)?.contains("state \"expired\" of job \(job.id)") == true)
            }
            let text = await failure { _ = try await bench.store.events(after: [job.number: 0]) }
            #expect(text?.contains("event type \"expired\" of event 2 of job \(job.id)") == true)
            #expect(try await bench.count("finished WHERE state = 'expired'") == 1)
            #expect(try await bench.job(other.id).state == .pending)
        }
    }

    @Test func typeOfAnEvent() async throws {
        try await Bench.with { bench in
            try await add("unblocked", to: "event_type", bench)
            let job = try await bench.enqueue()
            let other = try await bench.enqueue()
            try await bench.script(
                """
                INSERT INTO history (number, sequence, type, attempt, at)
                VALUES (\(job.number), 2, 'unblocked', 0, now());
                UPDATE live SET sequence = 2 WHERE number = \(job.number)
                """)
            let wanted = [job.number: Int64(0), other.number: 0]
            let text = await failure { _ = try await bench.store.events(after: wanted) }
            #expect(text?.contains("event type \"unblocked\" of event 2 of job \(job.id)") == true)
            // The event is no attempt, so what is known of the job's attempts is whole.
            #expect(try await bench.store.jobWithHistory(job.id, payload: false)?.attempts == [])
            let known = try await bench.store.knownEvents(after: wanted)
            #expect(known.events.mapValues { $0.map(\.type) } == [other.number: [.enqueued]])
            #expect(known.unknown.map(\.job) == [job.id])
            #expect(known.unknown.map(\.value) == ["event type \"unblocked\""])
            // Its state is known, so it runs.
            #expect(try await bench.job(job.id).state == .pending)
            #expect(Set(try await bench.claim().map(\.key.id)) == [job.id, other.id])
        }
    }

    @Test func causeOfAnError() async throws {
        try await Bench.with { bench in
            let (failed, again) = (try await bench.start(), try await bench.start())
            try await bench.finish(failed, .failure)
            try await bench.finish(again, .again())
            for table in ["finished", "history"] {
                try await bench.script(
                    """
                    DROP TRIGGER \(table)_immutable ON \(table);
                    UPDATE \(table) SET cause = 'replaced', reason = 'replaced'
                    """)
            }
            for run in [failed, again] {
                let read = await failure { _ = try await bench.store.job(run.key.id) }
                #expect(read?.contains("cause \"replaced\" of job \(run.key.id)") == true)
                let text = await failure { _ = try await bench.store.events(after: [run.key.number: 0]) }
                #expect(text?.contains("cause \"replaced\" of event 3 of job \(run.key.id)") == true)
            }
            let known = try await bench.store.knownEvents(after: [failed.key.number: 0])
            #expect(known.unknown.map(\.job) == [failed.key.id])
        }
    }

    @Test func levelOfALogLine() async throws {
        try await Bench.with { bench in
            let run = try await bench.start()
            let number = run.key.number
            let lines = [1, 2].map {
                LogLine(number: $0, at: .now, attempt: 1, level: .info, message: "line \($0)")
            }
            try await bench.store.save([
                RunUpdate(run, progress: nil, log: lines)
            ])
            try await bench.script("UPDATE log_line SET level = 'audit' WHERE line = 1")
            let wanted = [WantedLog(number: number, job: run.key.id, after: 0)]
            for read in [
                { _ = try await bench.store.logs(of: wanted) },
                { _ = try await bench.store.jobWithHistory(run.key.id, payload: false) },
            ] as [() async throws -> Void] {
                #expect(
                    await failure(read)?.contains("log level \"audit\" of line 1 of job number \(number)")
                        == true)
            }
            let known = try await bench.store.knownLogs(of: wanted)
            #expect(known.logs.mapValues { $0.map(\.number) } == [number: [2]])
            #expect(known.unknown == ["log level \"audit\""])
        }
    }

    /// A run whose node died is rerun or fails as its kind says, and not by a guess.
    @Test func policyOfAKind() async throws {
        try await Bench.with(kinds: ["k": .retry, "newer": .retry]) { bench in
            let peer = try await bench.peer()
            for kind in ["k", "newer"] { try await bench.enqueue(JobSpec(kind: kind, userID: "u")) }
            let runs = try await bench.claim(by: peer)
            #expect(runs.count == 2)
            try await bench.script(
                """
                ALTER TABLE kind DROP CONSTRAINT kind_on_interruption_check;
                UPDATE kind SET on_interruption = 'resume' WHERE name = 'newer';
                UPDATE node SET lease_until = now() - interval '1 second' WHERE id = \(peer.nodeNumber)
                """)
            let orphans = try await bench.store.orphans()
            #expect(orphans.runs.map(\.run.spec.kind) == ["k"])
            #expect(orphans.unknown == [UnknownPolicy(kind: "newer", policy: "resume")])
            try await bench.finish(try #require(orphans.runs.first).run, .again())
            // Only while there is such a run.
            let left = try #require(runs.first { $0.spec.kind == "newer" })
            #expect(try await bench.store.orphans().unknown.count == 1)
            try await bench.finish(left, .success)
            #expect(try await bench.store.orphans().unknown.isEmpty)
        }
    }

    @Test func labelsOfAJob() async throws {
        try await Bench.with { bench in
            let job = try await bench.enqueue(JobSpec(kind: "k", userID: "u", labels: ["a": "b"]))
            try await bench.script("DROP TRIGGER job_immutable ON job")
            try await bench.script("UPDATE job SET labels = '{\"a\": [1]}'")
            let text = await failure { _ = try await bench.store.job(job.id) }
            #expect(text?.contains("the labels are not an object of texts (job \(job.id))") == true)
            // They hold up neither the job's run nor those of others.
            #expect(try await bench.claim().map(\.spec.labels) == [[:]])
        }
    }
}
