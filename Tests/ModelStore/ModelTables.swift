package import JobModel
package import Support

/// A job, with everything that the store keeps of it.
package struct ModelJob: Sendable {
    /// Its run, while it has one.
    package struct Run: Sendable {
        package var token: Int64
        package var node: Int32
        package var startedAt: Timestamp
    }

    package let number: Int64
    package let id: JobID
    package let lane: Int64
    /// As it was enqueued.
    package let spec: JobSpec
    package let createdAt: Timestamp
    /// Whether another request with the same id or key could be the same one.
    let mayConflict: Bool
    package internal(set) var state = JobEventType.enqueued.to
    /// A pending job that is due, and was found to be so.
    package internal(set) var isReady: Bool
    package internal(set) var dueAt: Timestamp
    package internal(set) var attempt = 0
    /// The number of the last attempt that the budget allows.
    package internal(set) var lastAttempt: Int
    package internal(set) var run: Run?
    /// Not nil: somebody asked for the end of the run.
    package internal(set) var cancelNote: String?
    package internal(set) var checkpoint: [UInt8]?
    package internal(set) var events: [JobEvent] = []
    var attempts: [Attempt] = []
    var log: [LogLine] = []
    var progress: (attempt: Int, progress: Progress)?
    package internal(set) var result: JobResult?
    var error: JobError?
    var startedAt: Timestamp?
    package internal(set) var finishedAt: Timestamp?

    package var sequence: Int64 { events.last?.sequence ?? 0 }
    package var key: JobKey { JobKey(number: number, lane: lane, id: id) }
    /// Nil: it has no run.
    package var fence: RunFence? {
        run.map { RunFence(number: number, token: $0.token, startedAt: $0.startedAt) }
    }

    /// The record that a read of the store returns: without the payload and the id of the request.
    package var record: JobRecord {
        var spec = spec
        spec.payload = []
        spec.jobID = nil
        spec.due = .after(.zero)
        return JobRecord(
            number: number, id: id, spec: spec, state: state, sequence: sequence, createdAt: createdAt,
            dueAt: dueAt,
            startedAt: startedAt, finishedAt: finishedAt, attempt: attempt,
            attemptsUsed: spec.attemptsUsed(attempt: attempt, lastAttempt: lastAttempt),
            cancelRequested: cancelNote != nil,
            progress: progress.flatMap { $0.attempt == attempt ? $0.progress : nil }, result: result,
            error: error,
            attempts: attempts, log: log)
    }
}

/// A node under one lease.
package struct ModelNode: Sendable {
    package let number: Int32
    package let name: String
    package internal(set) var leaseUntil: Timestamp
    package internal(set) var endedAt: Timestamp?

    package func isAlive(at now: Timestamp) -> Bool { endedAt == nil && leaseUntil > now }
}

/// A user in a queue.
package struct ModelLane: Sendable {
    package let number: Int64
    package let userID: ExactText
    package let queue: ExactText
    package internal(set) var limit: Int?
}

struct ModelQueue: Sendable {
    var limit: Int?
    var isPaused = false
}

struct ModelKind: Sendable {
    let number: Int32
    let name: ExactText
    var onInterruption = Interruption.retry
}

/// What the service keeps, as plain values, and what every operation of the store does with it. The time comes in, and
/// nothing depends on the order of a dictionary.
///
/// It is simple so that it can be seen to be right: everything is searched from end to end. Two limits of the database
/// are left out, because they bound work and not results: lanes that one claim looks at, and queues of a user.
package struct ModelTables: Sendable {
    /// By number.
    package internal(set) var jobs: [ModelJob] = []
    package internal(set) var nodes: [ModelNode] = []
    package internal(set) var lanes: [ModelLane] = []
    var queues: [ExactText: ModelQueue] = [:]
    var kinds: [ModelKind] = []
    /// The time of each entry of the audit, of which there is one for each change by a client, oldest first.
    var audit: [Timestamp] = []
    /// Of the nodes that have registered. Their numbers are not given again, not even after a restore.
    var lastNode: Int32 = 0
    var lastJob: Int64 = 0
    var lastToken: Int64 = 0
    /// Bugs that are planted, so that the simulation can show that it finds them.
    let defects: Set<ModelDefect>
    let lanesPerClaimMax: Int

    /// - Parameter lanesPerClaimMax: that of `JobStore`, unless a few lanes are to be many.
    package init(defects: Set<ModelDefect> = [], lanesPerClaimMax: Int = 40) {
        self.defects = defects
        self.lanesPerClaimMax = lanesPerClaimMax
    }

    package func job(_ id: JobID) -> ModelJob? { jobs.first { $0.id == id } }

    package func node(_ number: Int32) -> ModelNode? { nodes.first { $0.number == number } }

    package func isPaused(_ queue: ExactText) -> Bool { queues[queue]?.isPaused ?? false }

    package func limit(of lane: ModelLane, default: Int) -> Int {
        lane.limit ?? queues[lane.queue]?.limit ?? `default`
    }

    package func running(in lane: Int64) -> Int { jobs.count { $0.lane == lane && $0.run != nil } }

    func index(of run: RunFence) -> Int? {
        jobs.firstIndex { job in
            job.number == run.number && job.run != nil
                && (job.fence == run || defects.contains(.finishIgnoresToken)
                    || defects.contains(.fenceIgnoresStart) && job.run?.token == run.token)
        }
    }

    func laneIndex(_ number: Int64) -> Int? { lanes.firstIndex { $0.number == number } }

    mutating func lane(of userID: ExactText, queue: ExactText) -> ModelLane {
        if let lane = lanes.first(where: { $0.userID == userID && $0.queue == queue }) { return lane }
        let lane = ModelLane(number: Int64(lanes.count) + 1, userID: userID, queue: queue)
        lanes.append(lane)
        return lane
    }

    mutating func kind(_ name: ExactText) -> Int {
        if let index = kinds.firstIndex(where: { $0.name == name }) { return index }
        kinds.append(ModelKind(number: Int32(kinds.count) + 1, name: name))
        return kinds.count - 1
    }

    mutating func nextToken() -> Int64 {
        if defects.contains(.claimRepeatsToken), lastToken > 0, lastToken.isMultiple(of: 4) {
            return lastToken
        }
        lastToken += 1
        return lastToken
    }

    /// Adds an event to a job, which is in the event's state from then on. The callers check that it may happen.
    @discardableResult
    mutating func add(
        _ type: JobEventType, to index: Int, at now: Timestamp, attempt: Int, node: String? = nil,
        error: JobError? = nil, dueAt: Timestamp? = nil, result: JobResult? = nil
    ) -> JobEvent {
        var sequence = jobs[index].sequence + 1
        if defects.contains(.skipsEventNumber), sequence == 3 { sequence += 1 }
        let spec = jobs[index].spec
        let event = JobEvent(
            jobID: jobs[index].id, sequence: sequence, type: type, at: now, attempt: attempt, node: node,
            error: error, dueAt: dueAt,
            result: result.flatMap { $0.data.count <= JobLimits.eventResultBytesMax ? $0 : nil },
            kind: spec.kind,
            userID: spec.userID, queue: spec.queue)
        jobs[index].events.append(event)
        jobs[index].state = type.to
        return event
    }

    /// Starts a run of a job for a node.
    mutating func start(_ index: Int, on node: Int32, at now: Timestamp) -> JobEvent {
        let name = self.node(node)?.name ?? ""
        jobs[index].attempt += 1
        jobs[index].isReady = false
        jobs[index].run = ModelJob.Run(token: nextToken(), node: node, startedAt: now)
        jobs[index].startedAt = now
        let attempt = jobs[index].attempt
        jobs[index].attempts.append(
            Attempt(number: attempt, node: name, startedAt: now, endedAt: nil, outcome: .running, error: nil))
        return add(.started, to: index, at: now, attempt: attempt, node: name)
    }
}
