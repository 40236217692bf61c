package import JobModel
import Postgres
import Support
import Synchronization

/// Adds jobs. A job that conflicts with another one, by its id or by its user and key, is not in the result, and
/// is looked up by `FindExisting`.
struct InsertJobs: StatementOfNode, Sendable {
    let node: NodeID
    let jobs: [NewJob]
    let names: JobNames
    /// The digest of each request; nil if no job can conflict with it.
    let digests: [[UInt8]?]
    let callers: JobCallers
    /// The slots and lanes in which jobs may start at once; nil: none start.
    let offer: StartOffer?

    /// The statement for the jobs. If none can conflict, adding them takes a third less time.
    var statement: ParameterizedStatement<InsertJobs> {
        let mayConflict = digests.contains { $0 != nil }
        if offer != nil { return mayConflict ? Self.start : Self.startFresh }
        return mayConflict ? Self.insert : Self.insertFresh
    }

    static let insert = ParameterizedStatement<Self>("insert_jobs", inserting(mayConflict: true))
    static let insertFresh = ParameterizedStatement<Self>("insert_fresh_jobs", inserting(mayConflict: false))

    private static func inserting(mayConflict: Bool) -> SQL<Self> {
        """
        WITH \(.newJobs(mayConflict: mayConflict)), \(.auditingNewJobs(mayConflict: mayConflict)), entry AS (
            INSERT INTO live (number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts)
            SELECT number, lane, kind, -priority,
                (CASE WHEN due_at <= now() THEN 'ready' ELSE 'scheduled' END)::live_state,
                due_at, 1, 0, max_attempts
            FROM new
        ), \(.announcing("new", node: \.node.number, sequence: "1::bigint"))
        SELECT id, number, created_at, due_at, NULL::bigint AS token, NULL::timestamptz AS started_at FROM new
        """
    }
}

/// Looks up the jobs that have the id or the key of new ones.
struct FindExisting: Command {
    let ids: [JobID]
    let users: [ExactText]
    let keys: [ExactText?]

    init(_ jobs: [NewJob]) {
        ids = jobs.map(\.id)
        users = jobs.map(\.spec.userID)
        keys = jobs.map(\.spec.idempotencyKey)
    }

    static let statement = ParameterizedStatement<Self>(
        "find_existing",
        """
        SELECT t.ordinal, j.id, j.digest, j.idempotency_key, coalesce(l.sequence, f.sequence) AS sequence,
            -- The id is of one job and the key of another: the request cannot be the same as both.
            EXISTS (
                SELECT FROM job other
                WHERE other.user_id = t.user_id AND other.idempotency_key = t.key AND other.id <> j.id) AS is_of_two
        FROM unnest(\(\.ids), \(\.users), \(\.keys)) WITH ORDINALITY AS t(id, user_id, key, ordinal)
        JOIN LATERAL (
            SELECT id, number, digest, idempotency_key FROM job WHERE job.id = t.id
            UNION ALL
            SELECT id, number, digest, idempotency_key FROM job
            WHERE job.user_id = t.user_id AND job.idempotency_key = t.key
            LIMIT 1
        ) j ON true
        LEFT JOIN live l ON \(.lookUp("l.number", "j.number"))
        LEFT JOIN finished f ON \(.lookUp("f.number", "j.number"))
        """)
}

extension JobStore {
    /// Adds one job, and calls `completion` once it is committed. `completion` is called on a thread of the store
    /// and must not block. Many calls share a commit.
    package func enqueue(
        _ job: NewJob, completion: @escaping @Sendable (Result<Enqueued, StoreError>) -> Void
    ) {
        let startWriter = {
            self.startWriter(self.enqueues) { [self] jobs, connection throws(PostgresError) in
                try commitEnqueues(jobs, connection)
            }
        }
        enqueues.submit(job, startWriter: startWriter) { [self] outcome in
            switch outcome {
            case .success(.new(let inserted)):
                completion(.success(Enqueued(job: inserted.record(job), isNew: true)))
            case .success(.existing(let id, sequence: _)):
                readExisting(id, for: job) { completion($0.map { Enqueued(job: $0, isNew: false) }) }
            case .failure(let error):
                completion(.failure(error))
            }
        }
    }

    /// Adds one job and returns once it is committed.
    package func enqueue(_ job: NewJob) async throws(StoreError) -> Enqueued {
        let result = await withCheckedContinuation { continuation in
            enqueue(job) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// Adds all jobs or none, in one transaction. Returns a result for each job, in order.
    package func enqueueBatch(_ jobs: [NewJob]) async throws(StoreError) -> [EnqueuedItem] {
        let (batch, indexes) = try Self.distinct(jobs)
        let bytes = batch.reduce(0) { $0 + $1.spec.bytes }
        let hasRoom = batchBytes.withLock { waiting in
            guard waiting == 0 || waiting + bytes <= Self.batchBytesMax else { return false }
            waiting += bytes
            return true
        }
        guard hasRoom else { throw .overloaded }
        defer { batchBytes.withLock { $0 -= bytes } }
        try await refuseConflicts(of: batch, indexes)
        let outcomes = try await write("enqueue_batch") { [self] connection throws(PostgresError) in
            try confirming { () throws(PostgresError) in try insertBatch(batch, connection) }
        }
        return try answers(to: batch, outcomes, indexes)
    }

    /// Runs `body` once more if the database did not have a lane or a kind that is remembered, after all are forgotten.
    private func confirming<T>(_ body: () throws(PostgresError) -> T) throws(PostgresError) -> T {
        do throws(PostgresError) {
            return try body()
        } catch {
            guard error.isUnconfirmedName else { throw error }
            catalog.forget()
            return try body()
        }
    }

    private func insertBatch(
        _ batch: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        let resolved = try catalog.resolve(batch, together: true, connection)
        if let index = resolved.firstIndex(where: { $0 == nil }) {
            let error = StoreError.tooManyQueues(userID: batch[index].spec.userID)
            return [Result<EnqueueOutcome, StoreError>.failure(error)]
        }
        let lanes = resolved.compactMap { $0 }
        // If no job has an id or key of the caller, none can conflict, so none can fail alone.
        if !batch.contains(where: { $0.mayConflict }) {
            return try insert(batch, lanes) { queries throws(PostgresError) in
                try connection.execute(queries)
            }
        }
        var outcomes: [Result<EnqueueOutcome, StoreError>] = []
        var hasFailure = false
        do throws(PostgresError) {
            try connection.withTransaction { transaction throws(PostgresError) in
                outcomes = try insert(batch, lanes) { queries throws(PostgresError) in
                    try transaction.execute(queries)
                }
                for case .failure in outcomes { hasFailure = true }
                // Throwing is how the transaction is rolled back.
                if hasFailure { throw PostgresError(.cancelled, "a job of the batch cannot be added") }
            }
        } catch {
            if !hasFailure { throw error }
        }
        return outcomes
    }

    /// - Parameter indexes: see `distinct`.
    private func answers(
        to batch: [NewJob], _ outcomes: [Result<EnqueueOutcome, StoreError>], _ indexes: [Int]?
    ) throws(StoreError) -> [EnqueuedItem] {
        var answers: [EnqueuedItem] = []
        answers.reserveCapacity(batch.count)
        var changes: [LocalChange] = []
        changes.reserveCapacity(batch.count)
        for (index, (job, outcome)) in zip(batch, outcomes).enumerated() {
            switch outcome {
            case .success(.new(let inserted)):
                answers.append(EnqueuedItem(id: job.id, isNew: true, sequence: 1))
                changes.append(inserted.localChange(job))
            case .success(.existing(let id, let sequence)):
                answers.append(EnqueuedItem(id: id, isNew: false, sequence: sequence))
            case .failure(.conflict(let id, _)):
                throw .conflict(id, index: indexes?.firstIndex(of: index) ?? index)
            case .failure(let error):
                throw error
            }
        }
        publish(changes)
        guard let indexes else { return answers }
        var wasAnswered = [Bool](repeating: false, count: batch.count)
        return indexes.map { index in
            defer { wasAnswered[index] = true }
            var answer = answers[index]
            answer.isNew = answer.isNew && !wasAnswered[index]
            return answer
        }
    }

    /// Refuses a batch with a conflict before missing lanes are added, so that a refused batch leaves nothing behind.
    private func refuseConflicts(of batch: [NewJob], _ indexes: [Int]?) async throws(StoreError) {
        guard batch.contains(where: { $0.mayConflict }), catalog.known(batch) == nil else { return }
        let refused = try await run("find_conflicts") { [self] connection throws(PostgresError) in
            try conflicts(of: batch, connection)
        }
        guard let index = refused.keys.min(), let id = refused[index] else { return }
        throw .conflict(id, index: indexes?.firstIndex(of: index) ?? index)
    }

    /// A job that comes twice in a batch is added once. `indexes` has each job's index in the distinct batch; nil: all jobs
    /// are distinct, because ids that the server makes differ.
    private static func distinct(
        _ jobs: [NewJob]
    ) throws(StoreError) -> (batch: [NewJob], indexes: [Int]?) {
        guard jobs.contains(where: { $0.spec.jobID != nil }) else { return (jobs, nil) }
        var indexByID: [JobID: Int] = [:]
        var batch: [NewJob] = []
        var indexes: [Int] = []
        for (index, job) in jobs.enumerated() {
            if let first = indexByID[job.id] {
                guard RequestDigest.isSame(job.spec, as: batch[first].spec) else {
                    throw .conflict(job.id, index: index)
                }
                indexes.append(first)
            } else {
                indexByID[job.id] = batch.count
                indexes.append(batch.count)
                batch.append(job)
            }
        }
        return (batch, indexes)
    }

    /// The number of times that one commit tries to add jobs that share an id.
    private static let roundsMax = 3

    /// Adds jobs and returns one result per job, as if they had been added one after the other. It takes a few statements,
    /// however many jobs share an id.
    func commitEnqueues(
        _ jobs: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        // All ids are made by the server, so they differ.
        if jobs.allSatisfy({ $0.spec.jobID == nil }) { return try commitDistinct(jobs, connection) }
        var outcomes = [Result<EnqueueOutcome, StoreError>](
            repeating: .failure(Self.contended), count: jobs.count)
        var open = Array(jobs.indices)
        for _ in 0..<Self.roundsMax {
            // A statement cannot tell two jobs with the same id apart, so only the first of each is added.
            var firstByID: [JobID: Int] = [:]
            firstByID.reserveCapacity(open.count)
            for index in open where firstByID[jobs[index].id] == nil { firstByID[jobs[index].id] = index }
            let firsts = firstByID.count == open.count ? open : firstByID.values.sorted()
            for (index, outcome) in zip(firsts, try commitDistinct(firsts.map { jobs[$0] }, connection)) {
                outcomes[index] = outcome
            }
            if firsts.count == open.count { return outcomes }
            open = open.filter { index in
                guard let first = firstByID[jobs[index].id], first != index else { return false }
                let key = jobs[index].spec.idempotencyKey
                // Another key may belong to another job, which is looked up below.
                guard key == nil || key == jobs[first].spec.idempotencyKey,
                    RequestDigest.isSame(jobs[index].spec, as: jobs[first].spec)
                else { return true }
                outcomes[index] = outcomes[first].map { $0.again(of: jobs[first]) }
                return false
            }
            // The remaining jobs have other content: by now their ids are taken, unless the first job was
            // refused.
            let found = try existing(open.map { jobs[$0] }, connection)
            for (index, outcome) in found { outcomes[open[index]] = outcome }
            open = open.indices.filter { found[$0] == nil }.map { open[$0] }
            if open.isEmpty { return outcomes }
        }
        return outcomes
    }

    private func commitDistinct(
        _ jobs: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        try confirming { () throws(PostgresError) in try resolveAndCommit(jobs, connection) }
    }

    private func resolveAndCommit(
        _ jobs: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        if let lanes = catalog.known(jobs) { return try commit(jobs, lanes, connection) }
        // Lanes are never removed, so none is added for a job that is refused: refusals could otherwise fill the table.
        let refused = try conflicts(of: jobs, connection)
        let others = jobs.indices.filter { refused[$0] == nil }
        var outcomes = jobs.indices.map { index -> Result<EnqueueOutcome, StoreError> in
            .failure(refused[index].map { .conflict($0, index: 0) } ?? Self.vanished)
        }
        guard !others.isEmpty else { return outcomes }
        var resolved: [(index: Int, lane: LaneIDs)] = []
        for (index, lane) in zip(others, try catalog.resolve(others.map { jobs[$0] }, connection)) {
            if let lane {
                resolved.append((index, lane))
            } else {
                outcomes[index] = .failure(.tooManyQueues(userID: jobs[index].spec.userID))
            }
        }
        guard !resolved.isEmpty else { return outcomes }
        let committed = try commit(resolved.map { jobs[$0.index] }, resolved.map(\.lane), connection)
        for ((index, _), outcome) in zip(resolved, committed) { outcomes[index] = outcome }
        return outcomes
    }

    private func commit(
        _ jobs: [NewJob], _ lanes: [LaneIDs], _ connection: Connection
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        let offer = StartOffer(jobs, lanes, starter, closedLanes)
        defer { offer?.end() }
        let outcomes = try insert(jobs, lanes, offer) { queries throws(PostgresError) in
            // No BEGIN is needed, because the statements of one round trip are one transaction.
            try connection.execute(queries)
        }
        var changes: [LocalChange] = []
        changes.reserveCapacity(jobs.count)
        var runs: [ClaimedRun] = []
        for (job, outcome) in zip(jobs, outcomes) {
            guard case .success(.new(let inserted)) = outcome else { continue }
            changes.append(inserted.localChange(job))
            guard let run = inserted.run(job) else { continue }
            changes.append(.event(run.startedEvent(node: nodeName), run.key))
            runs.append(run)
        }
        publish(changes)
        offer?.start(runs)
        return outcomes
    }

    private static let batchBytesMax = 64 << 20
    static let vanished = StoreError.unavailable("the job with this id is being removed: try again")
    private static let contended = StoreError.unavailable(
        "too many different jobs with this id arrived at once: try again")

    /// Adds jobs with distinct ids and returns one result per job. `execute` runs statements in one round trip.
    private func insert(
        _ jobs: [NewJob], _ lanes: [LaneIDs], _ offer: StartOffer? = nil,
        _ execute: ([Query]) throws(PostgresError) -> [QueryResult]
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        let digests = jobs.map { $0.mayConflict ? RequestDigest.digest(of: $0.spec) : nil }
        let insert = InsertJobs(
            node: nodeID, jobs: jobs, names: JobNames(jobs, lanes), digests: digests,
            callers: JobCallers(jobs), offer: offer)
        let results = try execute((offer.map { [$0.lock] } ?? []) + [Query(insert.statement, insert)])
        var outcomes = [Result<EnqueueOutcome, StoreError>](
            repeating: .failure(Self.vanished), count: jobs.count)
        var isMissing = [Bool](repeating: true, count: jobs.count)
        // The rows usually come in the order of the jobs, but that depends on the plan.
        var indexes = (0..<jobs.count).makeIterator()
        var indexByID: [JobID: Int]?
        let inserted = results[results.count - 1]
        let columns = try InsertedJob.Columns(inserted)
        for row in inserted {
            let id = try row[columns.id]
            var found = indexByID == nil ? indexes.next() : indexByID?[id]
            if let index = found, jobs[index].id != id {
                let all = Dictionary(uniqueKeysWithValues: jobs.indices.map { (jobs[$0].id, $0) })
                indexByID = all
                found = all[id]
            }
            guard let index = found else { continue }
            isMissing[index] = false
            outcomes[index] = .success(.new(try InsertedJob(row, columns, lane: lanes[index].lane)))
        }
        let missing = jobs.indices.filter { isMissing[$0] }
        guard !missing.isEmpty else { return outcomes }
        let existing = try execute([Query(FindExisting(missing.map { jobs[$0] }))])[0]
        for (index, outcome) in try Self.read(existing, for: missing.map { jobs[$0] }) {
            outcomes[missing[index]] = outcome
        }
        return outcomes
    }

    /// The outcomes of the rows of `FindExisting`, by the index of the job that was looked up.
    private static func read(
        _ result: QueryResult, for jobs: [NewJob]
    ) throws(PostgresError) -> [(index: Int, outcome: Result<EnqueueOutcome, StoreError>)] {
        let ordinal: Column<Int64> = try result.column("ordinal")
        let id: Column<JobID> = try result.column("id")
        let digest: Column<[UInt8]?> = try result.column("digest")
        let key: Column<ExactText?> = try result.column("idempotency_key")
        let sequence: Column<Int64?> = try result.column("sequence")
        let isOfTwo: Column<Bool> = try result.column("is_of_two")
        var found: [(index: Int, outcome: Result<EnqueueOutcome, StoreError>)] = []
        for row in result {
            let index = Int(try row[ordinal]) - 1
            let id = try row[id]
            let own = RequestDigest.digest(of: jobs[index].spec, key: try row[key])
            guard try row[digest] == own, try !row[isOfTwo] else {
                found.append((index, .failure(.conflict(id, index: 0))))
                continue
            }
            let existing = try row[sequence].map { EnqueueOutcome.existing(id, sequence: $0) }
            found.append((index, existing.map { .success($0) } ?? .failure(vanished)))
        }
        return found
    }

    /// Looks up the jobs that already have the id or the key of these ones. Returns the outcomes by index.
    private func existing(
        _ jobs: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Int: Result<EnqueueOutcome, StoreError>] {
        let indexes = jobs.indices.filter { jobs[$0].mayConflict }
        guard !indexes.isEmpty else { return [:] }
        var existing: [Int: Result<EnqueueOutcome, StoreError>] = [:]
        let wanted = indexes.map { jobs[$0] }
        for (index, outcome) in try Self.read(try connection.execute(FindExisting(wanted)), for: wanted) {
            existing[indexes[index]] = outcome
        }
        return existing
    }

    /// The ids of jobs with other content that have the id or the key of these ones, by index.
    private func conflicts(
        of jobs: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Int: JobID] {
        try existing(jobs, connection).compactMapValues { outcome in
            if case .failure(.conflict(let id, _)) = outcome { id } else { nil }
        }
    }
}

/// The result of adding one job.
enum EnqueueOutcome: Sendable {
    case new(InsertedJob)
    /// There is a job with the same id or key, and the same content.
    case existing(JobID, sequence: Int64)

    /// The outcome of the same request right after this one, which was for `job`.
    func again(of job: NewJob) -> EnqueueOutcome {
        switch self {
        case .new: .existing(job.id, sequence: 1)
        case .existing: self
        }
    }
}

struct InsertedJob: Sendable {
    var number: Int64
    var lane: Int64
    var createdAt: Timestamp
    var dueAt: Timestamp
    /// The token of its run, if it started at once.
    var token: Int64?
    var startedAt: Timestamp?

    /// The columns that `InsertJobs` returns.
    struct Columns {
        let id: Column<JobID>
        let number: Column<Int64>
        let createdAt: Column<Timestamp>
        let dueAt: Column<Timestamp>
        let token: Column<Int64?>
        let startedAt: Column<Timestamp?>

        init(_ result: QueryResult) throws(PostgresError) {
            id = try result.column("id")
            number = try result.column("number")
            createdAt = try result.column("created_at")
            dueAt = try result.column("due_at")
            token = try result.column("token")
            startedAt = try result.column("started_at")
        }
    }

    init(_ row: Row, _ columns: Columns, lane: Int64) throws(PostgresError) {
        number = try row[columns.number]
        self.lane = lane
        createdAt = try row[columns.createdAt]
        dueAt = try row[columns.dueAt]
        token = try row[columns.token]
        startedAt = try row[columns.startedAt]
    }

    /// The job as it was added. If it has started already, that is its next event.
    func record(_ job: NewJob) -> JobRecord {
        JobRecord(
            number: number, id: job.id, spec: job.spec, state: JobEventType.enqueued.to, sequence: 1,
            createdAt: createdAt, dueAt: dueAt)
    }

    func localChange(_ job: NewJob) -> LocalChange {
        .event(
            JobEvent(
                jobID: job.id, sequence: 1, type: .enqueued, at: createdAt, attempt: 0, dueAt: dueAt,
                kind: job.spec.kind, userID: job.spec.userID, queue: job.spec.queue),
            JobKey(number: number, lane: lane, id: job.id))
    }

    func run(_ job: NewJob) -> ClaimedRun? {
        guard let token, let startedAt else { return nil }
        return ClaimedRun(
            key: JobKey(number: number, lane: lane, id: job.id), spec: job.spec, token: token, attempt: 1,
            lastAttempt: job.spec.maxAttempts, sequence: 2, startedAt: startedAt, lastLogLine: 0)
    }
}

extension PostgresError {
    /// Whether a lane or a kind was null (not_null_violation): the database does not have it under the number that is
    /// remembered. Nothing else that `InsertJobs` writes can be null.
    // exact: five characters of ASCII that the database gives
    fileprivate var isUnconfirmedName: Bool { sqlState == "23502" }
}
