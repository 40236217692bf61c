import JobModel
import JobStore
import JobEngine
import Postgres
import Support
import Synchronization
import TestDatabase
import Testing

@Suite(.timeLimit(.minutes(2))) struct WorkerNodeTests {
    @Test func success() async throws {
        let runner = ScriptedRunner { run in
            run.report(stage: "half", fraction: 0.5, message: "m", done: 1, total: 2)
            run.log(.info, "hello")
            try await run.save(checkpoint: [9])
            return JobResult(data: run.payload, contentType: ExactText(run.contentType))
        }
        try await NodeBench.with(runner) { bench in
            let id = try await bench.enqueue {
                $0.payload = [1, 2]
                $0.contentType = "x/y"
            }
            #expect(await bench.events(upTo: .succeeded) == [.enqueued, .started, .succeeded])
            let job = try #require(await bench.job(id))
            #expect(job.result == JobResult(data: [1, 2], contentType: "x/y"))
            // Said before the end, so it is written before it.
            #expect(job.progress?.stage == "half" && job.log.map(\.message) == ["hello"])
            #expect(job.attempts.map(\.outcome) == [.succeeded])
        }
    }

    @Test func failureIsTriedAgainWithItsCheckpoint() async throws {
        let runner = ScriptedRunner { run in
            if run.attempt == 3 { return JobResult(data: run.checkpoint ?? [], contentType: "x/y") }
            try await run.save(checkpoint: (run.checkpoint ?? []) + [UInt8(run.attempt)])
            throw RunFailure(message: "oops \(run.attempt)")
        }
        try await NodeBench.with(runner) { bench in
            let id = try await bench.enqueue()
            #expect(
                await bench.events(upTo: .succeeded) == [
                    .enqueued, .started, .retryScheduled, .started, .retryScheduled, .started, .succeeded,
                ])
            let job = try #require(await bench.job(id))
            #expect(job.result?.data == [1, 2])
            #expect(job.attempts.map(\.error?.message) == ["oops 1", "oops 2", nil])
        }
    }

    /// What it says may be a path or a secret of the server.
    @Test func anyOtherErrorIsReportedByItsType() async throws {
        struct Trouble: Error {
            let path = "/srv/secret"
        }
        let runner = ScriptedRunner { run in
            if run.attempt == 2 {
                throw RunFailure(message: "no room", isPermanent: true, details: "/srv/secret")
            }
            throw Trouble()
        }
        try await NodeBench.with(runner) { bench in
            let id = try await bench.enqueue()
            _ = await bench.events(upTo: .failed)
            let job = try #require(await bench.job(id))
            #expect(
                job.attempts.map(\.error?.message) == [
                    "the handler threw an error of type Trouble", "no room",
                ])
        }
    }

    /// As when Postgres is restarted: no attempt is used up.
    @Test func checkpointWaitsForADatabaseThatIsAway() async throws {
        let runner = ScriptedRunner { run in
            try await run.save(checkpoint: [7])
            return ScriptedRunner.done
        }
        try await NodeBench.with(runner) { bench in
            let lock = try Connection(bench.schema.connectionConfiguration())
            // Readers and the start of the run go on.
            try lock.executeScript("BEGIN; LOCK TABLE checkpoint IN SHARE MODE")
            let id = try await bench.enqueue()
            let end = Statement(
                nil,
                """
                SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity
                WHERE $1 = ANY (pg_blocking_pids(pid)) AND query LIKE '%INSERT INTO checkpoint%'
                """)
            let blocker = lock.backendProcessID
            var ended = 0
            while ended == 0 {
                ended = try await bench.database.run("end") { connection throws(PostgresError) in
                    try connection.execute(end, Parameters { $0.append(blocker) }).rowCount
                }
            }
            try lock.executeScript("COMMIT")
            #expect(await bench.events(upTo: .succeeded) == [.enqueued, .started, .succeeded])
            #expect(try await bench.job(id)?.attempts.map(\.outcome) == [.succeeded])
        }
    }

    /// The database's words are not for the job's user.
    @Test func refusedCheckpointFailsTheAttempt() async throws {
        let runner = ScriptedRunner { run in
            try await run.save(checkpoint: [7])
            return ScriptedRunner.done
        }
        try await NodeBench.with(runner) { bench in
            try await bench.script("ALTER TABLE checkpoint ADD CHECK (false)")
            let id = try await bench.enqueue { $0.maxAttempts = 1 }
            _ = await bench.events(upTo: .failed)
            #expect(
                try await bench.job(id)?.error
                    == JobError(message: "the checkpoint could not be saved", cause: .handler))
        }
    }

    @Test func lastFailureIsFinal() async throws {
        struct Odd: Error {}
        try await NodeBench.with(ScriptedRunner { _ in throw Odd() }) { bench in
            let id = try await bench.enqueue { $0.maxAttempts = 2 }
            _ = await bench.events(upTo: .failed)
            let job = try #require(await bench.job(id))
            #expect(job.state == .failed && job.attempt == 2 && job.error?.cause == .handler)
        }
    }

    @Test func permanentFailureIsFinalAtOnce() async throws {
        let runner = ScriptedRunner { _ in throw RunFailure(message: "no", isPermanent: true) }
        try await NodeBench.with(runner) { bench in
            let id = try await bench.enqueue()
            let events = await bench.events(upTo: .failed)
            #expect(events == [.enqueued, .started, .failed])
            #expect(try await bench.job(id)?.error == JobError(message: "no", cause: .handlerPermanent))
        }
    }

    /// No delay that a handler names keeps other ends from being written.
    @Test func absurdDelayIsBounded() async throws {
        let runner = ScriptedRunner { _ in throw RunFailure(message: "m", retryAfter: .seconds(1e15)) }
        try await NodeBench.with(runner) { bench in
            let id = try await bench.enqueue()
            _ = await bench.events(upTo: .retryScheduled)
            let job = try #require(await bench.job(id))
            #expect(job.dueAt <= Timestamp.now.advanced(by: JobLimits.retryDelayMax))
        }
    }

    @Test func softTimeoutIsSignalledAndHardStops() async throws {
        let runner = ScriptedRunner { run in
            if run.payload.isEmpty { return try await ScriptedRunner.forever() }
            try await run.softTimeout()
            return ScriptedRunner.done
        }
        try await NodeBench.with(runner) { bench in
            let soft = try await bench.enqueue {
                $0.payload = [1]
                $0.softTimeout = .milliseconds(10)
            }
            _ = await bench.events(upTo: .succeeded)
            #expect(try await bench.job(soft)?.state == .succeeded)
            let hard = try await bench.enqueue {
                $0.timeout = .milliseconds(10)
                $0.maxAttempts = 2
            }
            #expect(
                await bench.events(upTo: .failed)
                    == [.enqueued, .started, .retryScheduled, .started, .failed])
            let job = try #require(await bench.job(hard))
            #expect(job.error?.cause == .timeout && job.attempts.map(\.outcome) == [.timedOut, .timedOut])
        }
    }

    @Test func handlerThatDoesNotStopIsGivenUp() async throws {
        let (gate, open) = AsyncStream<Void>.makeStream()
        let runner = ScriptedRunner { _ in
            // Deaf to its cancellation.
            await Task.detached { for await _ in gate { break } }.value
            return ScriptedRunner.done
        }
        try await NodeBench.with(runner, configure: { $0.grace = .milliseconds(10) }) { bench in
            let id = try await bench.enqueue {
                $0.timeout = .milliseconds(10)
                $0.maxAttempts = 1
            }
            _ = await bench.events(upTo: .failed)
            #expect(try await bench.job(id)?.error?.cause == .timeout)
            open.finish()
        }
    }

    /// A shutdown leaves less time than the grace; the runner is told when that is over.
    @Test func runnerHearsThatItsRunIsGivenUp() async throws {
        let (steps, step) = AsyncStream<String>.makeStream()
        let runner = ScriptedRunner { run in
            // Deaf to its cancellation.
            await Task.detached {
                step.yield("began")
                try? await run.abandoned()
                step.yield("given up")
            }.value
            return ScriptedRunner.done
        }
        try await NodeBench.with(runner, configure: { $0.grace = .seconds(600) }) { bench in
            let id = try await bench.enqueue()
            for await word in steps where word == "began" { break }
            _ = try await bench.store.cancel(id, note: "enough")
            await bench.node.shutdown(grace: .zero)
            for await word in steps where word == "given up" { break }
            #expect(try await bench.job(id)?.state == .cancelled)
        }
    }

    @Test func cancelStopsTheRun() async throws {
        try await NodeBench.with(ScriptedRunner { _ in try await ScriptedRunner.forever() }) { bench in
            let id = try await bench.enqueue()
            _ = await bench.events(upTo: .started)
            _ = try await bench.store.cancel(id, note: "enough")
            #expect(await bench.events(upTo: .cancelled) == [.cancelRequested, .cancelled])
            let job = try #require(await bench.job(id))
            #expect(job.state == .cancelled && job.error?.message == "enough")
        }
    }

    @Test func shutdownGivesRunsBack() async throws {
        try await NodeBench.with(ScriptedRunner { _ in try await ScriptedRunner.forever() }) { bench in
            let id = try await bench.enqueue()
            _ = await bench.events(upTo: .started)
            await bench.node.shutdown(grace: .milliseconds(10))
            #expect(await bench.events(upTo: .released) == [.released])
            let job = try #require(await bench.job(id))
            #expect(job.state == .pending && job.attempt == 1 && job.attemptsUsed == 0)
            #expect(job.attempts.map(\.outcome) == [.released])
            #expect(try await bench.store.nodes().map(\.isAlive) == [false])
        }
    }

    @Test func shutdownLetsRunsFinish() async throws {
        let (gate, open) = AsyncStream<Void>.makeStream()
        let (runs, began) = AsyncStream<Void>.makeStream()
        let runner = ScriptedRunner { _ in
            began.yield()
            for await _ in gate { break }
            return ScriptedRunner.done
        }
        try await NodeBench.with(runner) { bench in
            let id = try await bench.enqueue()
            for await _ in runs { break }
            async let stopped: Void = bench.node.shutdown(grace: .seconds(60))
            open.yield()
            await stopped
            #expect(try await bench.job(id)?.state == .succeeded)
        }
    }

    /// No claim is left behind by a shutdown that comes while it is on its way.
    @Test(arguments: 0..<5)
    func shutdownWhileJobsStream(_ turn: Int) async throws {
        try await NodeBench.with(ScriptedRunner { _ in try await ScriptedRunner.forever() }) { bench in
            for _ in 0..<turn { _ = try await bench.enqueue() }
            async let last = bench.enqueue()
            await bench.node.shutdown(grace: .zero)
            _ = try await last
            let left = try await bench.store.list(JobFilter(), before: nil, size: 10).jobs
            #expect(left.allSatisfy { $0.state == .pending && $0.attemptsUsed == 0 })
        }
    }

    /// A job whose claim was committed, and the answer to it lost; `extra`: more that was set meanwhile. Its queue is
    /// paused.
    private func strayRun(_ bench: NodeBench, _ extra: String = "") async throws -> JobID {
        try await bench.store.setPaused(true, queue: "default")
        let id = try await bench.enqueue()
        try await bench.script(
            """
            UPDATE live SET state = 'running', token = nextval('run_token'), attempt = 1, sequence = 2,
                started_at = now(), node = \(bench.store.nodeNumber) \(extra)
            """)
        return id
    }

    @Test func runThatTheNodeDoesNotKnowOfIsGivenBack() async throws {
        let runner = ScriptedRunner { _ in ScriptedRunner.done }
        try await NodeBench.with(runner, configure: { $0.lease = .seconds(3) }) { bench in
            let id = try await strayRun(bench)
            try await bench.store.setPaused(false, queue: "default")
            #expect(await bench.events(upTo: .succeeded) == [.enqueued, .released, .started, .succeeded])
            #expect(try await bench.job(id)?.attempts.map(\.outcome) == [.released, .succeeded])
        }
    }

    /// The same, and somebody has cancelled the job meanwhile.
    @Test func runThatTheNodeDoesNotKnowOfIsCancelled() async throws {
        let runner = ScriptedRunner { _ in ScriptedRunner.done }
        try await NodeBench.with(runner, configure: { $0.lease = .seconds(3) }) { bench in
            let id = try await strayRun(bench, ", cancel_requested_at = now(), cancel_reason = 'enough'")
            #expect(await bench.events(upTo: .cancelled) == [.enqueued, .cancelled])
            #expect(try await bench.job(id)?.error?.message == "enough")
        }
    }

    /// Jobs that start as they are enqueued and those that are claimed share the slots.
    @Test(arguments: [false, true]) func neverMoreRunsThanSlots(comeAtOnce: Bool) async throws {
        let gauge = Gauge()
        let runner = ScriptedRunner { _ in
            gauge.enter()
            defer { gauge.leave() }
            await Task.yield()
            return ScriptedRunner.done
        }
        try await NodeBench.with(
            runner,
            configure: {
                $0.concurrency = 3
                $0.defaultUserLimit = 2
            }
        ) { bench in
            var left: Set<JobID>
            if comeAtOnce {
                let jobs = (0..<300).map {
                    NewJob(spec: JobSpec(kind: "k", userID: "u\($0 % 5)"), now: .now)
                }
                left = Set(try await bench.store.enqueueBatch(jobs).map(\.id))
            } else {
                left = try await withThrowingTaskGroup(of: JobID.self) { group in
                    for index in 0..<300 {
                        group.addTask { try await bench.enqueue { $0.userID = "u\(index % 50)" } }
                    }
                    return try await group.reduce(into: []) { $0.insert($1) }
                }
            }
            for await event in bench.events where event.type == .succeeded {
                left.remove(event.jobID)
                if left.isEmpty { break }
            }
            #expect(left.isEmpty && gauge.most <= 3)
        }
    }

    /// Thought dead by the others: its runs stop and write nothing, and it goes on as a new node.
    @Test func lostLeaseStopsRuns() async throws {
        let stopped = Stops()
        let runner = ScriptedRunner { run in
            guard run.attempt == 1 else { return ScriptedRunner.done }
            do {
                return try await ScriptedRunner.forever()
            } catch {
                stopped.add(run.attempt)
                // What a dropped run returns is nobody's business.
                return JobResult(data: [66], contentType: "late")
            }
        }
        try await NodeBench.with(runner, configure: { $0.lease = .seconds(3) }) { bench in
            let first = bench.store.nodeNumber
            let id = try await bench.enqueue()
            _ = await bench.events(upTo: .started)
            try await bench.script("UPDATE node SET ended_at = now()")
            #expect(await bench.events(upTo: .succeeded) == [.retryScheduled, .started, .succeeded])
            let job = try #require(await bench.job(id))
            #expect(job.result == ScriptedRunner.done)
            #expect(job.attempts.map(\.outcome) == [.interrupted, .succeeded])
            #expect(stopped.all == [1])
            #expect(bench.store.nodeNumber != first)
        }
    }

    /// The database does not answer for most of a lease: the node stops its runs by itself, and begins anew.
    @Test func silenceOfTheDatabaseStopsRuns() async throws {
        let (stops, stopped) = AsyncStream<Void>.makeStream()
        let runner = ScriptedRunner { run in
            guard run.attempt == 1 else { return ScriptedRunner.done }
            do {
                return try await ScriptedRunner.forever()
            } catch {
                stopped.yield()
                throw error
            }
        }
        try await NodeBench.with(runner, configure: { $0.lease = .seconds(3) }) { bench in
            let first = bench.store.nodeNumber
            let id = try await bench.enqueue()
            _ = await bench.events(upTo: .started)
            // Renewals wait for the row.
            let lock = try Connection(bench.schema.connectionConfiguration())
            try lock.executeScript("BEGIN; SELECT FROM node FOR UPDATE")
            for await _ in stops { break }
            try lock.executeScript("COMMIT")
            #expect(await bench.events(upTo: .succeeded) == [.retryScheduled, .started, .succeeded])
            #expect(try await bench.job(id)?.attempts.map(\.outcome) == [.interrupted, .succeeded])
            #expect(bench.store.nodeNumber != first)
        }
    }

    private final class Stops: Sendable {
        private let attempts = Mutex<[Int]>([])
        var all: [Int] { attempts.withLock { $0 } }
        func add(_ attempt: Int) { attempts.withLock { $0.append(attempt) } }
    }

    /// More lanes than one claim locks, so that claims overlap. Where there are slots for all users, the first job of
    /// each waits for those of the others, while nobody's second one may start.
    @Test(arguments: [5, 400]) func limitsHoldWhileClaimsOverlap(_ slots: Int) async throws {
        let users = 150
        let crowd = Crowd(slots < users ? 1 : users)
        let runs = Runs()
        let runner = ScriptedRunner { run in
            runs.begin(run.jobID, of: run.userID)
            await crowd.meet()
            await Task.yield()
            runs.end(of: run.userID)
            return ScriptedRunner.done
        }
        try await NodeBench.with(
            runner,
            configure: {
                $0.concurrency = slots
                $0.defaultUserLimit = 1
            }
        ) { bench in
            let jobs = (0..<2 * users).map {
                NewJob(spec: JobSpec(kind: "k", userID: "u\($0 % users)"), now: .now)
            }
            let ids = try await bench.store.enqueueBatch(jobs).map(\.id)
            var left = Set(ids)
            for await event in bench.events where event.type == .succeeded {
                left.remove(event.jobID)
                if left.isEmpty { break }
            }
            #expect(left.isEmpty && runs.mostOfAUser == 1)
            #expect(runs.counts == Dictionary(uniqueKeysWithValues: ids.map { ($0, 1) }))
        }
    }
}

/// How many are inside at once.
private final class Gauge: Sendable {
    private let counts = Mutex((now: 0, most: 0))
    var most: Int { counts.withLock(\.most) }
    func enter() {
        counts.withLock { counts in
            counts.now += 1
            counts.most = max(counts.most, counts.now)
        }
    }
    func leave() { counts.withLock { $0.now -= 1 } }
}

/// How often each job ran, and how many of one user at once.
private final class Runs: Sendable {
    private struct State {
        var counts: [JobID: Int] = [:]
        var running: [String: Int] = [:]
        var mostOfAUser = 0
    }

    private let state = Mutex(State())
    var counts: [JobID: Int] { state.withLock(\.counts) }
    var mostOfAUser: Int { state.withLock(\.mostOfAUser) }

    func begin(_ id: JobID, of user: String) {
        state.withLock { state in
            state.counts[id, default: 0] += 1
            let now = state.running[user, default: 0] + 1
            state.running[user] = now
            state.mostOfAUser = max(state.mostOfAUser, now)
        }
    }

    func end(of user: String) { state.withLock { $0.running[user, default: 0] -= 1 } }
}

/// Whoever comes waits until so many have come; after that nobody waits.
private final class Crowd: Sendable {
    private struct State {
        var missing: Int
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state: Mutex<State>

    init(_ count: Int) { state = Mutex(State(missing: count)) }

    func meet() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let released = state.withLock { state -> [CheckedContinuation<Void, Never>] in
                state.waiting.append(continuation)
                state.missing -= 1
                guard state.missing <= 0 else { return [] }
                defer { state.waiting = [] }
                return state.waiting
            }
            for waiter in released { waiter.resume() }
        }
    }
}
