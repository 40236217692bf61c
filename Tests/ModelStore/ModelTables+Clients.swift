package import JobModel
package import Support

/// What became of a job that was enqueued.
package struct ModelEnqueued: Sendable {
    package var enqueued: Enqueued
    package var events: [(event: JobEvent, key: JobKey)] = []
    /// Its run, where it started at once.
    package var run: ClaimedRun?
}

/// What a request to cancel did.
package enum ModelCancelled: Sendable {
    case nothing
    case cancelled(JobEvent, JobKey)
    case asked(JobEvent, JobKey, RunFence, node: Int32)
}

extension ModelTables {
    /// Adds a job, and starts it at once where a grant allows it.
    package mutating func enqueue(
        _ job: NewJob, under grant: StartGrant?, on node: Int32, at now: Timestamp
    ) throws(StoreError) -> ModelEnqueued {
        if let existing = existing(job) {
            guard existing.mayConflict, Self.isSame(existing.spec, job.spec), !isOfTwo(job) else {
                throw .conflict(existing.id, index: 0)
            }
            return ModelEnqueued(enqueued: Enqueued(job: existing.record, isNew: false))
        }
        audit.append(now)
        let lane = lane(of: job.spec.userID, queue: ExactText(job.spec.queue))
        let kind = kinds[kind(ExactText(job.spec.kind))].number
        let dueAt =
            switch job.spec.due {
            case .after(let delay): now.advanced(by: delay)
            case .at(let moment): moment
            }
        let waits = jobs.contains { $0.lane == lane.number && $0.state == .pending && $0.isReady }
        lastJob += 1
        jobs.append(
            ModelJob(
                number: lastJob, id: job.id, lane: lane.number, spec: job.spec, createdAt: now,
                mayConflict: job.mayConflict, isReady: dueAt <= now, dueAt: dueAt,
                lastAttempt: job.spec.maxAttempts))
        let index = jobs.count - 1
        let key = jobs[index].key
        let added = add(.enqueued, to: index, at: now, attempt: 0, dueAt: dueAt)
        var result = ModelEnqueued(enqueued: Enqueued(job: jobs[index].record, isNew: true))
        result.enqueued.job.spec = job.spec
        result.events = [(added, key)]
        if let grant, grant.slots > 0, grant.kinds.contains(kind), isDueAtOnce(job.spec), !waits,
            !isPaused(lane.queue),
            running(in: lane.number) < limit(of: lane, default: grant.defaultUserLimit),
            self.node(node)?.isAlive(at: now) ?? false
        {
            result.events.append((start(index, on: node, at: now), key))
            result.run = ClaimedRun(
                key: key, spec: job.spec, token: lastToken, attempt: 1, lastAttempt: job.spec.maxAttempts,
                sequence: 2, startedAt: now, lastLogLine: 0)
        }
        if defects.contains(.dropsAcknowledgedJob), key.number.isMultiple(of: 5) { jobs.removeLast() }
        return result
    }

    private func existing(_ job: NewJob) -> ModelJob? {
        jobs.first { $0.id == job.id }
            ?? job.spec.idempotencyKey.flatMap { key in
                jobs.first { $0.spec.userID == job.spec.userID && $0.spec.idempotencyKey == key }
            }
    }

    /// Whether the id is of one job and the key of another.
    private func isOfTwo(_ job: NewJob) -> Bool {
        guard let key = job.spec.idempotencyKey, jobs.contains(where: { $0.id == job.id }) else {
            return false
        }
        return jobs.contains {
            $0.id != job.id && $0.spec.userID == job.spec.userID && $0.spec.idempotencyKey == key
        }
    }

    /// Ids and keys do not count: a request may come again under another one and the same key.
    private static func isSame(_ left: JobSpec, _ right: JobSpec) -> Bool {
        var left = left
        left.jobID = right.jobID
        left.idempotencyKey = right.idempotencyKey
        return left == right
    }

    private func isDueAtOnce(_ spec: JobSpec) -> Bool {
        if case .after(let delay) = spec.due { delay <= .zero } else { false }
    }

    package mutating func cancel(
        _ id: JobID, note: String, expectedSequence: Int64, for users: UserScope, at now: Timestamp
    ) throws(StoreError) -> ModelCancelled {
        guard let index = jobs.firstIndex(where: { $0.id == id && users.contains($0.spec.userID) }) else {
            throw .notFound
        }
        let key = jobs[index].key
        try checkSequence(expectedSequence, of: jobs[index])
        let error = JobError(message: note, cause: .cancelled)
        switch jobs[index].state {
        case .pending:
            audit.append(now)
            jobs[index].isReady = false
            jobs[index].error = error
            jobs[index].startedAt = nil
            jobs[index].finishedAt = now
            let event = add(.cancelled, to: index, at: now, attempt: jobs[index].attempt, error: error)
            return .cancelled(event, key)
        case .running:
            guard jobs[index].cancelNote == nil, let run = jobs[index].run else { return .nothing }
            audit.append(now)
            if !defects.contains(.losesCancel) { jobs[index].cancelNote = note }
            let event = add(
                .cancelRequested, to: index, at: now, attempt: jobs[index].attempt,
                node: node(run.node)?.name ?? "", error: error)
            return .asked(
                event, key, RunFence(number: key.number, token: run.token, startedAt: run.startedAt),
                node: run.node)
        case .succeeded, .failed, .cancelled:
            return .nothing
        }
    }

    /// - Parameter expected: 0: any.
    private func checkSequence(_ expected: Int64, of job: ModelJob) throws(StoreError) {
        guard expected == 0 || job.sequence == expected else {
            throw .sequenceMismatch(expected: expected, actual: job.sequence)
        }
    }

    package mutating func retry(
        _ id: JobID, expectedSequence: Int64, for users: UserScope, at now: Timestamp
    ) throws(StoreError) -> (event: JobEvent, key: JobKey) {
        guard let index = jobs.firstIndex(where: { $0.id == id && users.contains($0.spec.userID) }) else {
            throw .notFound
        }
        try checkSequence(expectedSequence, of: jobs[index])
        guard JobEventType.retried.from.contains(jobs[index].state) else {
            throw .wrongState(jobs[index].state)
        }
        let key = jobs[index].key
        if defects.contains(.retryForgetsJob), let last = jobs[index].events.last { return (last, key) }
        audit.append(now)
        jobs[index].isReady = true
        jobs[index].dueAt = now
        jobs[index].lastAttempt = jobs[index].attempt + jobs[index].spec.maxAttempts
        jobs[index].error = nil
        jobs[index].result = nil
        jobs[index].startedAt = nil
        jobs[index].finishedAt = nil
        return (add(.retried, to: index, at: now, attempt: jobs[index].attempt, dueAt: now), key)
    }

    package mutating func setPaused(_ isPaused: Bool, queue: ExactText) {
        queues[queue, default: ModelQueue()].isPaused = isPaused
    }

    package mutating func setQueueLimit(_ limit: Int, queue: ExactText) {
        queues[queue, default: ModelQueue()].limit = limit
    }

    /// Nil: back to the queue's limit, which changes nothing of a user who is unknown.
    package mutating func setUserLimit(_ limit: Int?, userID: ExactText, queue: ExactText) {
        if limit != nil { _ = lane(of: userID, queue: queue) }
        for index in lanes.indices where lanes[index].userID == userID && lanes[index].queue == queue {
            lanes[index].limit = limit
        }
    }
}
