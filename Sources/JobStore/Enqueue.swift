import FoundationEssentials
package import JobModel
import Postgres
import Support
import Synchronization

extension Statement {
    /// Adds jobs. Conflicts (same id, or same key of the same user) are left out of the result and looked up after.
    static let insertJobs = Statement("insert_jobs", inserting(mayConflict: true))
    /// The same where nothing can conflict, for a third less.
    static let insertFreshJobs = Statement("insert_fresh_jobs", inserting(mayConflict: false))

    private static func inserting(mayConflict: Bool) -> String {
        """
        WITH \(newJobs(mayConflict: mayConflict)), \(auditing(newJobsMayConflict: mayConflict)), entry AS (
            INSERT INTO live (number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts)
            SELECT number, lane, kind, -priority,
                (CASE WHEN due_at <= now() THEN 'ready' ELSE 'scheduled' END)::live_state,
                due_at, 1, 0, max_attempts
            FROM new
        ), told AS (
            INSERT INTO change (node, jobs, lanes, sequences)
            SELECT $1, array_agg(number), array_agg(lane), array_agg(1::bigint) FROM new HAVING count(*) > 0
        )
        SELECT id, number, created_at, due_at, NULL::bigint, NULL::timestamptz FROM new
        """
    }

    /// The rows of `job`, from the parameters $2 to $20, as `new`, numbered in their order. Arrays are unnested in the
    /// list of columns: in FROM their rows would be written to a store of their own first, and read from it.
    static func newJobs(mayConflict: Bool) -> String {
        """
        input AS (
            SELECT unnest($2::uuid[]) AS id, unnest($3::bigint[]) AS lane, unnest($4::text[]) AS user_id,
                unnest($5::int[]) AS kind, unnest($6::smallint[]) AS priority, unnest($7::int[]) AS max_attempts,
                unnest($8::timestamptz[]) AS run_at, unnest($9::bigint[]) AS delay_us,
                unnest($10::bigint[]) AS timeout_ms, unnest($11::bigint[]) AS soft_timeout_ms,
                unnest($12::bigint[]) AS retry_initial_ms, unnest($13::float8[]) AS retry_factor,
                unnest($14::bigint[]) AS retry_max_ms, unnest($15::float8[]) AS retry_jitter,
                unnest($16::text[]) AS content_type, unnest($17::text[]) AS idempotency_key,
                unnest($18::bytea[]) AS digest, unnest($19::text[]) AS labels, unnest($20::bytea[]) AS payload
        ), new AS (
            INSERT INTO job (
                id, lane, user_id, kind, priority, max_attempts, due_at, timeout_ms, soft_timeout_ms,
                retry_initial_ms, retry_factor, retry_max_ms, retry_jitter, content_type, idempotency_key,
                digest, labels, payload)
            SELECT id, lane, user_id, kind, priority, max_attempts,
                coalesce(run_at, now() + delay_us * interval '1 microsecond'),
                timeout_ms, soft_timeout_ms, retry_initial_ms, retry_factor, retry_max_ms, retry_jitter,
                content_type, idempotency_key, digest, labels::jsonb, payload
            FROM input
            \(mayConflict ? "ON CONFLICT DO NOTHING" : "")
            RETURNING number, id, lane, kind, priority, max_attempts, created_at, due_at
        )
        """
    }

    static let findExisting = Statement(
        "find_existing",
        """
        SELECT t.place, j.id, j.digest
        FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS t(id, user_id, key, place)
        JOIN LATERAL (
            SELECT id, digest FROM job WHERE job.id = t.id
            UNION ALL
            SELECT id, digest FROM job WHERE job.user_id = t.user_id AND job.idempotency_key = t.key
            LIMIT 1
        ) j ON true
        """)
}

extension JobStore {
    /// Adds one job; calls `completion` once it is committed, on a thread of the store: it must not block. Many calls
    /// share a commit.
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
            case .success(.existing(let id)):
                readExisting(id, for: job) { completion($0.map { Enqueued(job: $0, isNew: false) }) }
            case .failure(let error):
                completion(.failure(error))
            }
        }
    }

    /// The same for a task.
    package func enqueue(_ job: NewJob) async throws(StoreError) -> Enqueued {
        let result = await withCheckedContinuation { continuation in
            enqueue(job) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// Adds all jobs or none, in one transaction. Returns each job's id and whether it is new, in order.
    package func enqueueBatch(_ jobs: [NewJob]) async throws(StoreError) -> [(id: JobID, isNew: Bool)] {
        let (batch, places) = try Self.distinct(jobs)
        let bytes = batch.reduce(0) { $0 + $1.spec.bytes }
        let hasRoom = batchBytes.withLock { waiting in
            guard waiting == 0 || waiting + bytes <= Self.batchBytesMax else { return false }
            waiting += bytes
            return true
        }
        guard hasRoom else { throw .overloaded }
        defer { batchBytes.withLock { $0 -= bytes } }
        try await refuseConflicts(of: batch, places)
        let outcomes = try await write("enqueue_batch") { [self] connection throws(PostgresError) in
            let resolved = try catalog.resolve(batch, together: true, connection)
            if let place = resolved.firstIndex(where: { $0 == nil }) {
                let error = StoreError.tooManyQueues(userID: batch[place].spec.userID)
                return [Result<EnqueueOutcome, StoreError>.failure(error)]
            }
            let lanes = resolved.compactMap { $0 }
            // Where nothing can conflict, nothing fails alone.
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
                    // Throwing is how a transaction is rolled back.
                    if hasFailure { throw PostgresError(.cancelled, "a job of the batch cannot be added") }
                }
            } catch {
                if !hasFailure { throw error }
            }
            return outcomes
        }
        var answers: [(id: JobID, isNew: Bool)] = []
        answers.reserveCapacity(jobs.count)
        var notices: [Notice] = []
        notices.reserveCapacity(batch.count)
        for (place, (job, outcome)) in zip(batch, outcomes).enumerated() {
            switch outcome {
            case .success(.new(let inserted)):
                answers.append((job.id, true))
                notices.append(inserted.notice(job))
            case .success(.existing(let id)):
                answers.append((id, false))
            case .failure(.conflict(let id, _)):
                throw .conflict(id, index: places?.firstIndex(of: place) ?? place)
            case .failure(let error):
                throw error
            }
        }
        tell(notices)
        guard let places else { return answers }
        var wasAnswered = [Bool](repeating: false, count: batch.count)
        return places.map { place in
            defer { wasAnswered[place] = true }
            return (answers[place].id, answers[place].isNew && !wasAnswered[place])
        }
    }

    /// Before lanes are added, where some are missing: a batch that is refused leaves nothing behind.
    private func refuseConflicts(of batch: [NewJob], _ places: [Int]?) async throws(StoreError) {
        guard batch.contains(where: { $0.mayConflict }), catalog.known(batch) == nil else { return }
        let refused = try await run("find_conflicts") { [self] connection throws(PostgresError) in
            try conflicts(of: batch, connection)
        }
        guard let place = refused.keys.min(), let id = refused[place] else { return }
        throw .conflict(id, index: places?.firstIndex(of: place) ?? place)
    }

    /// A job that comes twice in a batch goes once; `places` says where each one went. Nil: all where they were, since
    /// ids of our own making differ.
    private static func distinct(
        _ jobs: [NewJob]
    ) throws(StoreError) -> (batch: [NewJob], places: [Int]?) {
        guard jobs.contains(where: { $0.spec.jobID != nil }) else { return (jobs, nil) }
        var placeByID: [JobID: Int] = [:]
        var batch: [NewJob] = []
        var places: [Int] = []
        for (index, job) in jobs.enumerated() {
            if let place = placeByID[job.id] {
                guard RequestDigest.digest(of: batch[place].spec) == RequestDigest.digest(of: job.spec) else {
                    throw .conflict(job.id, index: index)
                }
                places.append(place)
            } else {
                placeByID[job.id] = batch.count
                places.append(batch.count)
                batch.append(job)
            }
        }
        return (batch, places)
    }

    /// How often jobs whose id comes again are tried to be added, in one commit.
    private static let roundsMax = 3

    /// One result per job, as if they had come one after the other. A few statements, however many have the same id.
    func commitEnqueues(
        _ jobs: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        // Ids of our own making differ.
        if jobs.allSatisfy({ $0.spec.jobID == nil }) { return try commitDistinct(jobs, connection) }
        var outcomes = [Result<EnqueueOutcome, StoreError>](
            repeating: .failure(Self.contended), count: jobs.count)
        var open = Array(jobs.indices)
        for _ in 0..<Self.roundsMax {
            // A statement cannot tell two jobs of the same id apart: the first of each goes.
            var firstByID: [JobID: Int] = [:]
            firstByID.reserveCapacity(open.count)
            for index in open where firstByID[jobs[index].id] == nil { firstByID[jobs[index].id] = index }
            let firsts = firstByID.count == open.count ? open : firstByID.values.sorted()
            for (index, outcome) in zip(firsts, try commitDistinct(firsts.map { jobs[$0] }, connection)) {
                outcomes[index] = outcome
            }
            if firsts.count == open.count { return outcomes }
            var digests: [Int: [UInt8]] = [:]
            open = open.filter { index in
                guard let first = firstByID[jobs[index].id], first != index else { return false }
                let digest = digests[first] ?? RequestDigest.digest(of: jobs[first].spec)
                digests[first] = digest
                guard RequestDigest.digest(of: jobs[index].spec) == digest else { return true }
                outcomes[index] = outcomes[first].map { .existing($0.id(of: jobs[first])) }
                return false
            }
            // Those with other content: by now their ids are taken, unless the first was refused.
            let found = try existing(open.map { jobs[$0] }, connection)
            for (place, outcome) in found { outcomes[open[place]] = outcome }
            open = open.indices.filter { found[$0] == nil }.map { open[$0] }
            if open.isEmpty { return outcomes }
        }
        return outcomes
    }

    private func commitDistinct(
        _ jobs: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        if let lanes = catalog.known(jobs) { return try commit(jobs, lanes, connection) }
        // Nothing removes a lane again: it is not added for a job that is refused, or refusals would fill the table.
        let refused = try conflicts(of: jobs, connection)
        let others = jobs.indices.filter { refused[$0] == nil }
        var outcomes = jobs.indices.map { index -> Result<EnqueueOutcome, StoreError> in
            .failure(refused[index].map { .conflict($0, index: 0) } ?? Self.vanished)
        }
        guard !others.isEmpty else { return outcomes }
        var placed: [(index: Int, lane: LaneIDs)] = []
        for (index, lane) in zip(others, try catalog.resolve(others.map { jobs[$0] }, connection)) {
            if let lane {
                placed.append((index, lane))
            } else {
                outcomes[index] = .failure(.tooManyQueues(userID: jobs[index].spec.userID))
            }
        }
        guard !placed.isEmpty else { return outcomes }
        let committed = try commit(placed.map { jobs[$0.index] }, placed.map(\.lane), connection)
        for ((index, _), outcome) in zip(placed, committed) { outcomes[index] = outcome }
        return outcomes
    }

    private func commit(
        _ jobs: [NewJob], _ lanes: [LaneIDs], _ connection: Connection
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        let offer = StartOffer(jobs, lanes, starter, closedLanes)
        defer { offer?.end() }
        let outcomes = try insert(jobs, lanes, offer) { queries throws(PostgresError) in
            // No BEGIN: what goes in one round trip is one transaction.
            try connection.execute(queries)
        }
        var notices: [Notice] = []
        notices.reserveCapacity(jobs.count)
        var runs: [ClaimedRun] = []
        for (job, outcome) in zip(jobs, outcomes) {
            guard case .success(.new(let inserted)) = outcome else { continue }
            notices.append(inserted.notice(job))
            guard let run = inserted.run(job) else { continue }
            notices.append(.event(run.startedEvent(node: nodeName), run.key))
            runs.append(run)
        }
        tell(notices)
        offer?.start(runs)
        return outcomes
    }

    private static let batchBytesMax = 64 << 20
    static let vanished = StoreError.unavailable("the job with this id is just being removed")
    private static let contended = StoreError.unavailable(
        "too many different jobs with this id have come at once, and those before were refused; try again")

    /// One result per job. The ids are unique. `execute` runs statements in one round trip.
    private func insert(
        _ jobs: [NewJob], _ lanes: [LaneIDs], _ offer: StartOffer? = nil,
        _ execute: ([Query]) throws(PostgresError) -> [QueryResult]
    ) throws(PostgresError) -> [Result<EnqueueOutcome, StoreError>] {
        let digests = jobs.map { $0.mayConflict ? RequestDigest.digest(of: $0.spec) : nil }
        var parameters = insertParameters(jobs, lanes, digests)
        let results: [QueryResult]
        let mayConflict = digests.contains { $0 != nil }
        if let offer {
            offer.append(to: &parameters)
            let insert: Statement = mayConflict ? .insertAndStartJobs : .insertAndStartFreshJobs
            results = try execute([offer.lock, Query(insert, parameters)])
        } else {
            results = try execute([Query(mayConflict ? .insertJobs : .insertFreshJobs, parameters)])
        }
        var outcomes = [Result<EnqueueOutcome, StoreError>](
            repeating: .failure(Self.vanished), count: jobs.count)
        var isMissing = [Bool](repeating: true, count: jobs.count)
        // Rows come in the order of the jobs, or nearly: that is the plan's affair.
        var indexes = (0..<jobs.count).makeIterator()
        var indexByID: [JobID: Int]?
        for row in results[results.count - 1] {
            let id = JobID(try row.uuid(0))
            var found = indexByID == nil ? indexes.next() : indexByID?[id]
            if let index = found, jobs[index].id != id {
                let all = Dictionary(uniqueKeysWithValues: jobs.indices.map { (jobs[$0].id, $0) })
                indexByID = all
                found = all[id]
            }
            guard let index = found else { continue }
            isMissing[index] = false
            outcomes[index] = .success(
                .new(
                    InsertedJob(
                        number: try row.int64(1), lane: lanes[index].lane,
                        createdAt: Timestamp(microseconds: try row.timestamp(2)),
                        dueAt: Timestamp(microseconds: try row.timestamp(3)), token: try row.optionalInt64(4),
                        startedAt: try row.optionalTimestamp(5).map { Timestamp(microseconds: $0) })))
        }
        let missing = jobs.indices.filter { isMissing[$0] }
        guard !missing.isEmpty else { return outcomes }
        let existing = try execute([Self.findExisting(missing.map { jobs[$0] })])
        for row in existing[0] {
            let index = missing[Int(try row.int64(0)) - 1]
            let id = JobID(try row.uuid(1))
            let isSame = try row.optionalBytes(2).map { $0 == digests[index] } ?? false
            outcomes[index] = isSame ? .success(.existing(id)) : .failure(.conflict(id, index: 0))
        }
        return outcomes
    }

    private static func findExisting(_ jobs: [NewJob]) -> Query {
        Query(
            .findExisting,
            Parameters {
                $0.append(jobs.map(\.id.uuid))
                $0.append(jobs.map(\.spec.userID.text))
                $0.append(jobs.map(\.spec.idempotencyKey?.text))
            })
    }

    /// Looks up the jobs that already have the id or the key of these ones, and gives the outcomes by their places.
    private func existing(
        _ jobs: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Int: Result<EnqueueOutcome, StoreError>] {
        let places = jobs.indices.filter { jobs[$0].mayConflict }
        guard !places.isEmpty else { return [:] }
        var existing: [Int: Result<EnqueueOutcome, StoreError>] = [:]
        for row in try connection.execute([Self.findExisting(places.map { jobs[$0] })])[0] {
            let place = places[Int(try row.int64(0)) - 1]
            let id = JobID(try row.uuid(1))
            let isSame = try row.optionalBytes(2) == RequestDigest.digest(of: jobs[place].spec)
            existing[place] = isSame ? .success(.existing(id)) : .failure(.conflict(id, index: 0))
        }
        return existing
    }

    /// The jobs whose id or key another one has, with other content: their places, and the ids of the others.
    private func conflicts(
        of jobs: [NewJob], _ connection: Connection
    ) throws(PostgresError) -> [Int: JobID] {
        try existing(jobs, connection).compactMapValues { outcome in
            if case .failure(.conflict(let id, _)) = outcome { id } else { nil }
        }
    }

    private func insertParameters(
        _ jobs: [NewJob], _ lanes: [LaneIDs], _ digests: [[UInt8]?]
    ) -> Parameters {
        var runAt: [Int64?] = []
        var delays: [Int64] = []
        for job in jobs {
            switch job.spec.due {
            case .at(let moment):
                runAt.append(moment.microseconds)
                delays.append(0)
            case .after(let delay):
                runAt.append(nil)
                delays.append(delay.microseconds)
            }
        }
        return Parameters {
            $0.append(nodeNumber)
            $0.append(jobs.map(\.id.uuid))
            $0.append(lanes.map(\.lane))
            $0.append(jobs.map(\.spec.userID.text))
            $0.append(lanes.map(\.kind))
            $0.append(jobs.map { Int16($0.spec.priority) })
            $0.append(jobs.map { Int32($0.spec.maxAttempts) })
            $0.append(timestamps: runAt)
            $0.append(delays)
            $0.append(jobs.map { $0.spec.timeout?.milliseconds })
            $0.append(jobs.map { $0.spec.softTimeout?.milliseconds })
            $0.append(jobs.map(\.spec.retryPolicy.initialDelay.milliseconds))
            $0.append(jobs.map(\.spec.retryPolicy.factor))
            $0.append(jobs.map(\.spec.retryPolicy.maxDelay.milliseconds))
            $0.append(jobs.map(\.spec.retryPolicy.jitter))
            $0.append(jobs.map(\.spec.contentType.text))
            $0.append(jobs.map(\.spec.idempotencyKey?.text))
            $0.append(byteArrays: digests)
            $0.append(jobs.map { Labels.json($0.spec.labels) })
            $0.append(byteArrays: jobs.map(\.spec.payload))
            $0.append(JobCallers(jobs))
        }
    }
}

/// What became of one job of a commit.
enum EnqueueOutcome: Sendable {
    case new(InsertedJob)
    /// There is one with the same id or key, and the same content.
    case existing(JobID)

    /// The id of the job that exists now.
    func id(of job: NewJob) -> JobID {
        switch self {
        case .new: job.id
        case .existing(let id): id
        }
    }
}

struct InsertedJob: Sendable {
    var number: Int64
    var lane: Int64
    var createdAt: Timestamp
    var dueAt: Timestamp
    /// Of its run, where it started at once.
    var token: Int64?
    var startedAt: Timestamp?

    /// The job as it was added; that it may run already is its next event.
    func record(_ job: NewJob) -> JobRecord {
        JobRecord(
            number: number, id: job.id, spec: job.spec, state: JobEventType.enqueued.to, sequence: 1,
            createdAt: createdAt, dueAt: dueAt)
    }

    func notice(_ job: NewJob) -> Notice {
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
            maxAttempts: job.spec.maxAttempts, sequence: 2, startedAt: startedAt, lastLogLine: 0)
    }
}
