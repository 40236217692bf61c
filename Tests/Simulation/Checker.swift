package import JobModel
package import ModelStore
import Support

/// Compares what the database does, and what the nodes do, with the rules. It keeps its own account of every job and
/// uses no decision of the store. Pure: facts go in, the first violation stays.
package struct Checker: Sendable {
    /// A job as it was after the last transaction.
    private struct Seen {
        var state: JobState
        var sequence: Int64
        /// The number of starts, of which the last one is the job's attempt.
        var attempt: Int
        /// The starts since the job was enqueued or retried, without those that were released.
        var attemptsUsed: Int
        var isCancelRequested: Bool
        var token: Int64?
    }

    private struct ActiveRun {
        let job: JobID
        let attempt: Int
        /// By the database; nil: it did not have the run when its handler began.
        let startedAt: Timestamp?
        let node: Int
        /// It may overlap with another attempt: its handler ignores its cancellation, its node was frozen, or the database
        /// was restored.
        var isExcused: Bool
        /// Its handler ignores its cancellation, or its node was frozen.
        var isUnstoppable: Bool
    }

    private struct AttemptKey: Hashable {
        let job: JobID
        let attempt: Int
        let startedAt: Timestamp?
    }

    package private(set) var violation: Violation?
    private let defaultUserLimit: Int
    private var jobs: [Int64: Seen] = [:]
    private var acknowledged: Set<JobID> = []
    private var greatestToken: Int64 = 0
    private var active: [Int: ActiveRun] = [:]
    private var lastRun = 0
    private var returned: Set<AttemptKey> = []
    private var checkpoints: [JobID: [UInt8]] = [:]

    package init(defaultUserLimit: Int) {
        self.defaultUserLimit = defaultUserLimit
    }

    package var acknowledgedCount: Int { acknowledged.count }

    package mutating func fail(_ rule: Rule, _ what: String) {
        if violation == nil { violation = Violation(rule: rule, what: what) }
    }

    // MARK: The database

    /// A transaction is over.
    package mutating func committed(_ tables: ModelTables) {
        guard violation == nil else { return }
        if tables.jobs.count < jobs.count {
            fail(.acknowledgedJobIsKept, "\(jobs.count - tables.jobs.count) jobs have gone from the database")
        }
        var startedLanes: Set<Int64> = []
        var tokens: [Int64] = []
        for job in tables.jobs {
            let seen = jobs[job.number]
            if seen?.sequence == job.sequence, seen?.token == job.run?.token, seen?.state == job.state,
                seen?.isCancelRequested == (job.cancelNote != nil)
            {
                continue
            }
            let attemptsUsed = checkEvents(of: job, since: seen)
            if let token = job.run?.token, token != seen?.token {
                tokens.append(token)
                startedLanes.insert(job.lane)
            }
            jobs[job.number] = Seen(
                state: job.state, sequence: job.sequence, attempt: job.attempt, attemptsUsed: attemptsUsed,
                isCancelRequested: job.cancelNote != nil, token: job.run?.token)
        }
        for token in tokens.sorted() {
            if token <= greatestToken {
                fail(.tokenGrows, "a run got token \(token) after token \(greatestToken)")
            }
            greatestToken = max(greatestToken, token)
        }
        for lane in tables.lanes where startedLanes.contains(lane.number) {
            let limit = tables.limit(of: lane, default: defaultUserLimit)
            let running = tables.running(in: lane.number)
            if running > limit {
                fail(.limitIsKept, "\(running) jobs run in lane \(lane.number), whose limit is \(limit)")
            }
        }
    }

    /// - Returns: how many attempts of the budget are used up according to the events.
    private mutating func checkEvents(of job: ModelJob, since seen: Seen?) -> Int {
        var state = seen?.state
        var sequence = seen?.sequence ?? 0
        var attempt = seen?.attempt ?? 0
        var attemptsUsed = seen?.attemptsUsed ?? 0
        for event in job.events where event.sequence > sequence {
            guard let type = event.type else {
                fail(.eventsFollowTheTable, "event \(event.sequence) of job \(job.number) has no type")
                continue
            }
            let name = "event \(event.sequence) (\(type.rawValue)) of job \(job.number)"
            if event.sequence != sequence + 1 { fail(.sequenceHasNoGap, "\(name) follows event \(sequence)") }
            if let state, state.isFinal, type != .retried {
                fail(.finalIsFinal, "\(name) changes a job that is \(state.rawValue)")
            }
            if state.map({ !type.from.contains($0) }) ?? !type.from.isEmpty {
                fail(.eventsFollowTheTable, "\(name) leaves the state \(state?.rawValue ?? "none")")
            }
            switch type {
            case .started:
                attempt += 1
                attemptsUsed += 1
            case .released: attemptsUsed -= 1
            case .retried: attemptsUsed = 0
            case .enqueued, .retryScheduled, .succeeded, .failed, .cancelled, .cancelRequested: break
            }
            if seen?.isCancelRequested ?? false, [.retryScheduled, .released].contains(type) {
                fail(.cancelIsKept, "\(name) puts back a job that was asked to stop")
            }
            if type == .succeeded,
                !returned.contains(
                    AttemptKey(job: job.id, attempt: event.attempt, startedAt: job.record.startedAt))
            {
                fail(.successWasEarned, "\(name): no handler of attempt \(event.attempt) returned")
            }
            sequence = event.sequence
            state = type.to
        }
        if state != job.state {
            fail(.eventsFollowTheTable, "job \(job.number) is \(job.state.rawValue) without an event")
        }
        let record = job.record
        if attempt != record.attempt || attemptsUsed != record.attemptsUsed
            || !(0...job.spec.maxAttempts).contains(attemptsUsed)
            || record.spec.maxAttempts != job.spec.maxAttempts
        {
            fail(
                .attemptsAreCounted,
                "job \(job.number) is at attempt \(record.attempt) and has used \(record.attemptsUsed) of "
                    + "\(job.spec.maxAttempts); its events say \(attempt) and \(attemptsUsed)"
            )
        }
        return attemptsUsed
    }

    // MARK: Answers

    package mutating func acknowledged(_ id: JobID, _ tables: ModelTables) {
        acknowledged.insert(id)
        if tables.job(id) == nil {
            fail(.acknowledgedJobIsKept, "job \(id) was acknowledged and is not there")
        }
    }

    package mutating func cancelled(_ id: JobID, _ tables: ModelTables) {
        guard let job = tables.job(id) else { return }
        if !job.state.isFinal, job.cancelNote == nil {
            fail(.cancelIsKept, "the request to cancel job \(job.number) was acknowledged and is not there")
        }
    }

    package mutating func retried(_ id: JobID, _ tables: ModelTables) {
        guard let job = tables.job(id) else { return }
        if job.state.isFinal {
            fail(.retryIsKept, "job \(job.number) is still \(job.state.rawValue) after a call of Retry")
        }
    }

    /// A write of a run was answered as done.
    package mutating func written(_ what: String, _ run: RunFence, _ before: RunFence?) {
        if run != before {
            fail(
                .staleWriteIsRefused,
                "\(what) of job \(run.number) was written under the token \(run.token) of a run that is over")
        }
    }

    package mutating func saved(_ checkpoint: [UInt8], of id: JobID) { checkpoints[id] = checkpoint }

    package mutating func renewed(_ node: ModelNode?, isAlive: Bool, at now: Timestamp) {
        if isAlive, !(node?.isAlive(at: now) ?? false) {
            fail(.endedLeaseStaysEnded, "node \(node?.number ?? 0) renewed a lease that had ended")
        }
    }

    package mutating func takenBack(_ orphans: [OrphanedRun], _ tables: ModelTables, at now: Timestamp) {
        for orphan in orphans {
            let job = tables.job(orphan.run.key.id)
            if let run = job?.run, let node = tables.node(run.node), node.isAlive(at: now) {
                fail(
                    .orphansHaveNoLease,
                    "a run of job \(orphan.run.key.number) was taken from node \(node.number), which has its lease"
                )
            }
        }
    }

    // MARK: Handlers

    /// - Parameters:
    ///   - isStubborn: it ignores its cancellation.
    ///   - isLate: its node was frozen shortly before, and may not know yet that it has lost its lease.
    /// - Returns: a number for `handlerEnded`.
    package mutating func handlerBegan(
        _ job: JobID, attempt: Int, startedAt: Timestamp?, checkpoint: [UInt8]?, node: Int, isStubborn: Bool,
        isLate: Bool
    ) -> Int {
        lastRun += 1
        active[lastRun] = ActiveRun(
            job: job, attempt: attempt, startedAt: startedAt, node: node, isExcused: isStubborn || isLate,
            isUnstoppable: isStubborn || isLate)
        guard !isLate else { return lastRun }
        let others = active.sorted { $0.key < $1.key }
        for (run, other) in others where run != lastRun && other.job == job && !other.isExcused {
            fail(
                .attemptsDoNotOverlap,
                "attempt \(attempt) of job \(job) began in process \(node) while attempt \(other.attempt) ran in process \(other.node)"
            )
        }
        if checkpoint != checkpoints[job] {
            fail(
                .checkpointIsKept,
                "attempt \(attempt) of job \(job) got the checkpoint \(checkpoint ?? []) instead of \(checkpoints[job] ?? [])"
            )
        }
        return lastRun
    }

    package mutating func handlerEnded(_ run: Int, didReturn: Bool) {
        guard let ended = active.removeValue(forKey: run) else { return }
        if didReturn {
            returned.insert(
                AttemptKey(job: ended.job, attempt: ended.attempt, startedAt: ended.startedAt))
        }
    }

    /// The handlers of a node cannot stop in time.
    package mutating func frozen(node: Int) {
        for (run, other) in active where other.node == node {
            active[run]?.isExcused = true
            active[run]?.isUnstoppable = true
        }
    }

    // MARK: A restore

    /// The database is as it was when `earlier` was the account of it. What the nodes do is as it is.
    ///
    /// - Returns: the handlers that run, for `lostRunsEnd`.
    package mutating func restored(_ earlier: Checker) -> [Int] {
        jobs = earlier.jobs
        acknowledged = earlier.acknowledged
        greatestToken = earlier.greatestToken
        checkpoints = earlier.checkpoints
        for run in active.keys { active[run]?.isExcused = true }
        return active.keys.sorted()
    }

    /// A lease has passed since the restore: the handlers of then that still run have runs in the database.
    package mutating func lostRunsEnd(_ runs: [Int], _ tables: ModelTables) {
        for number in runs {
            guard let run = active[number], !run.isUnstoppable else { continue }
            if tables.job(run.job)?.run?.startedAt != run.startedAt || run.startedAt == nil {
                fail(
                    .lostRunsAreStopped,
                    "attempt \(run.attempt) of job \(run.job) runs on in process \(run.node)")
            }
        }
    }

    /// The handlers of a node are gone.
    package mutating func crashed(node: Int) {
        active = active.filter { $0.value.node != node }
    }

    // MARK: The end

    package func isEverythingFinal(_ tables: ModelTables) -> Bool {
        tables.jobs.count >= acknowledged.count && tables.jobs.allSatisfy { $0.state.isFinal }
    }

    package mutating func ended(_ tables: ModelTables, at elapsed: Duration) {
        committed(tables)
        for id in acknowledged where tables.job(id) == nil {
            fail(.acknowledgedJobIsKept, "job \(id) was acknowledged and is not there at the end")
        }
        for job in tables.jobs where !job.state.isFinal {
            fail(.everythingEnds, "job \(job.number) is \(job.state.rawValue) after \(elapsed.seconds) s")
        }
    }
}
