package import JobModel
package import JobStore
package import Support

/// The operations on jobs: what a caller may ask for, in which order it is checked, and what the caller sees of the
/// answer. Every way into the service, gRPC or a program that embeds it, comes through here.
///
/// Scopes such as `jobs.enqueue` are not checked here: they belong to the credentials of a call. The users for whom the
/// caller may act are.
package struct JobOperations: Sendable {
    /// Wrong fields of a batch that are reported. The details of a gRPC status have no room for more.
    private static let violationsMax = 64

    let store: JobStore
    let quotas: UserQuotas
    let pageTokens: PageTokens
    private let kinds: KnownKinds

    package init(store: JobStore, kinds: KnownKinds, quotas: UserQuotas, pageTokens: PageTokens) {
        self.store = store
        self.kinds = kinds
        self.quotas = quotas
        self.pageTokens = pageTokens
    }

    // MARK: Enqueue

    /// Adds a job without a task where its kind and its quotas are known in memory, which is so for nearly every call.
    /// The order of the checks: the fields, the payload's size, the caller's users, the kind, the user's quotas.
    ///
    /// - Parameters:
    ///   - violations: fields that were found wrong while the draft was read. They are reported together with those that
    ///     are found here.
    ///   - completion: called exactly once if this returns nil, on any thread and possibly before this returns, and never
    ///     otherwise. It must not block.
    /// - Returns: the rest of the operation, if the database has to be asked first. If its task is cancelled meanwhile, it
    ///   throws `cancelled`, and the job is not added.
    package func enqueue(
        _ draft: JobSpecDraft, found violations: [FieldViolation] = [], by caller: Caller,
        completion: @escaping @Sendable (Result<Enqueued, ServiceError>) -> Void
    ) throws(ServiceError) -> (@Sendable () async throws(ServiceError) -> Enqueued)? {
        let job = try Self.checked(draft, found: violations, by: caller)
        let demand = quotas.demand(of: job)
        if try admitAtOnce(job, demand) {
            add(job, demand, completion)
            return nil
        }
        return { [self] () async throws(ServiceError) in
            try await admit(job, demand)
            return try await add(job, demand)
        }
    }

    /// Adds a job and waits until it is committed. If the task is cancelled while the database is asked about kind and
    /// quotas, this throws `cancelled`, and the job is not added.
    package func enqueue(
        _ draft: JobSpecDraft, found violations: [FieldViolation] = [], by caller: Caller
    ) async throws(ServiceError) -> Enqueued {
        enum Step: Sendable {
            case ended(Result<Enqueued, ServiceError>)
            case remains(@Sendable () async throws(ServiceError) -> Enqueued)
        }
        let step: Step = await withCheckedContinuation { continuation in
            do throws(ServiceError) {
                let rest = try enqueue(draft, found: violations, by: caller) {
                    continuation.resume(returning: .ended($0))
                }
                if let rest { continuation.resume(returning: .remains(rest)) }
            } catch {
                continuation.resume(returning: .ended(.failure(error)))
            }
        }
        switch step {
        case .ended(let result): return try result.get()
        case .remains(let rest): return try await rest()
        }
    }

    /// False: the database has to be asked (`admit`).
    private func admitAtOnce(_ job: NewJob, _ demand: UserQuotas.Demand?) throws(ServiceError) -> Bool {
        guard try kinds.admitAtOnce(job.spec.kind, "job.kind") else { return false }
        return try quotas.admitAtOnce(demand)
    }

    /// Checks its task's cancellation after each wait. The task of a call and what ends the call run on the same event
    /// loop, so a job that is added without a further wait is never one of a call that has already ended.
    private func admit(_ job: NewJob, _ demand: UserQuotas.Demand?) async throws(ServiceError) {
        try await kinds.admit([job.spec.kind]) { _ in "job.kind" }
        try await quotas.admit(demand)
    }

    /// Writes a job that was admitted, and waits until it is committed.
    private func add(_ job: NewJob, _ demand: UserQuotas.Demand?) async throws(ServiceError) -> Enqueued {
        let result = await withCheckedContinuation { continuation in
            add(job, demand) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    private static func checked(
        _ draft: JobSpecDraft, found: [FieldViolation], by caller: Caller
    ) throws(ServiceError) -> NewJob {
        var violations = found
        let now = Timestamp.now
        guard let spec = draft.validated(path: "job.", now: now, into: &violations) else {
            throw .invalid(violations)
        }
        try checkPayload(spec.payload, "job.payload")
        // Errors in the request itself come first. Everything after this depends on who the caller is.
        try caller.check(spec.userID, "job.user_id")
        return NewJob(spec: spec, now: now, by: caller)
    }

    /// Writes a job that was admitted.
    private func add(
        _ job: NewJob, _ demand: UserQuotas.Demand?,
        _ completion: @escaping @Sendable (Result<Enqueued, ServiceError>) -> Void
    ) {
        store.enqueue(job) { [quotas] result in
            quotas.settle(demand, result) { $0.isNew }
            switch result {
            case .success(var enqueued):
                enqueued.job.hide(from: job.caller)
                completion(.success(enqueued))
            case .failure(let error):
                completion(.failure(ServiceError(error, job: job.spec.jobID, isWrite: true)))
            }
        }
    }

    /// Adds all jobs or none. Returns a result for each job, in the order of the drafts. The order of the checks is that of
    /// `enqueue`, each for all jobs.
    ///
    /// - Parameters:
    ///   - drafts: 1 to `JobLimits.batchJobsMax`, with at most `JobLimits.batchBytesMax` of payload together.
    ///   - found: fields that were found wrong while the drafts were read.
    package func enqueueBatch(
        _ drafts: [JobSpecDraft], found: [FieldViolation] = [], by caller: Caller
    ) async throws(ServiceError) -> [EnqueuedItem] {
        // A list that is too long is not read, so there is nothing to check then.
        if found.isEmpty { try ServiceError.check(Self.violations(ofSizeOf: drafts)) }
        var violations = found
        let now = Timestamp.now
        var jobs: [NewJob] = []
        jobs.reserveCapacity(drafts.count)
        for (index, draft) in drafts.enumerated() {
            if let spec = draft.validated(path: "jobs[\(index)].", now: now, into: &violations) {
                jobs.append(NewJob(spec: spec, now: now, by: caller))
            }
            if violations.count >= Self.violationsMax { break }
        }
        try ServiceError.check(violations)
        for (index, job) in jobs.enumerated() {
            try Self.checkPayload(job.spec.payload, "jobs[\(index)].payload")
        }
        for (index, job) in jobs.enumerated() { try caller.check(job.spec.userID, "jobs[\(index)].user_id") }
        try await kinds.admit(jobs.map(\.spec.kind)) { "jobs[\($0)].kind" }
        let demand = quotas.demand(of: jobs)
        try await quotas.admit(demand)
        let result: Result<[EnqueuedItem], StoreError>
        do throws(StoreError) {
            result = .success(try await store.enqueueBatch(jobs))
        } catch {
            result = .failure(error)
        }
        quotas.settle(demand, result) { $0.contains { $0.isNew } }
        switch result {
        case .success(let enqueued): return enqueued
        case .failure(.conflict(let id, let index)):
            throw .conflict(id, jobs[index].spec.jobID == id ? .jobID : .idempotencyKey, index: index)
        case .failure(let error): throw ServiceError(error, isWrite: true)
        }
    }

    private static func violations(ofSizeOf drafts: [JobSpecDraft]) -> [FieldViolation] {
        guard (1...JobLimits.batchJobsMax).contains(drafts.count) else {
            return [
                FieldViolation(
                    field: "jobs", reason: drafts.isEmpty ? .required : .tooLong,
                    description: "are not 1 to \(JobLimits.batchJobsMax)")
            ]
        }
        // A remote caller's batch is also bounded by the size of its message.
        let bytes = drafts.reduce(0) { $0 + $1.payload.count }
        guard bytes > JobLimits.batchBytesMax else { return [] }
        return [
            FieldViolation(
                field: "jobs", reason: .tooLong,
                description: "have \(bytes) bytes of payload together, at most \(JobLimits.batchBytesMax)")
        ]
    }

    private static func checkPayload(_ payload: [UInt8], _ field: String) throws(ServiceError) {
        guard payload.count <= JobLimits.payloadBytesMax else {
            throw .payloadTooLarge(field: field, bytes: payload.count)
        }
    }

    // MARK: One job

    /// The job with its attempts, its log and, if wanted, its payload.
    package func get(
        _ id: JobID, payload: Bool, for caller: Caller
    ) async throws(ServiceError) -> JobRecord {
        let job = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.jobWithHistory(id, for: caller.users, payload: payload)
        }
        guard let job else { throw .notFound(id) }
        return job.visible(to: caller)
    }

    /// Asks for a job's end. Returns the job as it is then: one that is running goes on until its handler has stopped.
    ///
    /// - Parameter expectedSequence: the sequence that the job must have; 0: any.
    package func cancel(
        _ id: JobID, note: ExactText = "", expectedSequence: Int64 = 0, by caller: Caller
    ) async throws(ServiceError) -> JobRecord {
        var check = FieldCheck()
        check.text(note, "note", bytesMax: JobLimits.cancelNoteBytesMax, required: false)
        Self.check(expectedSequence, &check)
        try ServiceError.check(check.violations)
        return try await ServiceError.mapping(job: id, isWrite: true) { () async throws(StoreError) in
            try await store.cancel(
                id, note: note.text, expectedSequence: expectedSequence, by: caller)
        }.visible(to: caller)
    }

    /// Puts a failed or cancelled job back into its queue, where it counts against the quotas like one that is enqueued.
    ///
    /// - Parameter expectedSequence: the sequence that the job must have; 0: any.
    package func retry(
        _ id: JobID, expectedSequence: Int64 = 0, by caller: Caller
    ) async throws(ServiceError) -> JobRecord {
        var check = FieldCheck()
        Self.check(expectedSequence, &check)
        try ServiceError.check(check.violations)
        var demand: UserQuotas.Demand?
        if quotas.limitsEnqueues {
            let size = try await ServiceError.mapping { () async throws(StoreError) in
                try await store.payloadSize(id, for: caller.users)
            }
            // The store says what is wrong where there is no such job.
            if let size { demand = UserQuotas.Demand(size.userID, payloadBytes: size.bytes) }
        }
        try await quotas.admit(demand)
        let result: Result<JobRecord, StoreError>
        do throws(StoreError) {
            result = .success(
                try await store.retry(id, expectedSequence: expectedSequence, by: caller))
        } catch {
            result = .failure(error)
        }
        quotas.settle(demand, result) { _ in true }
        switch result {
        case .success(let job): return job.visible(to: caller)
        case .failure(let error): throw ServiceError(error, job: id, isWrite: true)
        }
    }

    private static func check(_ expectedSequence: Int64, _ check: inout FieldCheck) {
        check.require(expectedSequence >= 0, "expected_sequence", .outOfRange, "must be 0 or more")
    }
}
