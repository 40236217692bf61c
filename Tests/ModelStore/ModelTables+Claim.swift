package import JobModel
import Support

/// A lane that a claim may take from.
private struct OpenLane {
    let lane: ModelLane
    var kinds: [Int32]
    let limit: Int
}

extension ModelTables {
    /// Claims jobs for a node.
    ///
    /// - Parameters:
    ///   - isHeld: whether another node is just claiming from a lane.
    ///   - nextMayBegin: see `EngineStore.claim`.
    package mutating func claim(
        _ request: ClaimRequest, for node: Int32, at now: Timestamp, isHeld: (Int64) -> Bool = { _ in false },
        nextMayBegin: (ClaimOutlook) -> Void
    ) -> ClaimResult {
        let lanesMax = min(max(2 * request.slots, 16), lanesPerClaimMax)
        let isAlive = self.node(node)?.isAlive(at: now) ?? false
        var result = ClaimResult()
        var open: [OpenLane] = []
        var last = request.cursor.lane
        var openCount = 0
        for (number, kind) in waiting(after: request.cursor.lane) where openCount < lanesMax {
            last = number
            guard let index = laneIndex(number) else { continue }
            let lane = lanes[index]
            let limit = limit(of: lane, default: request.defaultUserLimit)
            guard limit > 0, !isPaused(lane.queue), request.kinds.contains(kind) else { continue }
            openCount += 1
            guard isAlive, !isHeld(number) else {
                result.isContended = true
                continue
            }
            if open.last?.lane.number == number {
                open[open.count - 1].kinds.append(kind)
            } else {
                open.append(OpenLane(lane: lane, kinds: [kind], limit: limit))
            }
        }
        let isWhole = openCount < lanesMax
        if !isWhole {
            if open.last?.lane.number == last {
                // The scan ended within this lane: the claim takes the other kinds with it.
                open[open.count - 1].kinds = request.kinds
            } else if last - 1 > request.cursor.lane {
                // Another node holds this lane: the next claim begins with it.
                last -= 1
            }
        }
        result.cursor.lane = isWhole ? 0 : last
        result.hasMore = !isWhole || request.cursor.lane > 0
        result.foundLanes = openCount > 0
        guard !open.isEmpty else { return result }
        let share = isWhole ? request.slots : max(1, request.slots / open.count)
        let runsMax = open.reduce(0) { $0 + min($1.limit, share) }
        if !isWhole, runsMax <= request.slots {
            nextMayBegin(ClaimOutlook(cursor: result.cursor, runsMax: runsMax))
        }
        for index in picks(from: open, share: share, slots: request.slots) {
            _ = start(index, on: node, at: now)
            result.runs.append(claimed(jobs[index]))
        }
        if result.runs.count == request.slots {
            result.hasMore = true
            var served: [Int64: Int] = [:]
            for run in result.runs { served[run.key.lane, default: 0] += 1 }
            let most = served.values.max()
            result.cursor.lane = open.last { served[$0.lane.number] == most }?.lane.number ?? last
        }
        return result
    }

    /// The lanes and kinds with something ready behind a lane, in order.
    private func waiting(after lane: Int64) -> [(lane: Int64, kind: Int32)] {
        var pairs: [(lane: Int64, kind: Int32)] = []
        for job in jobs where job.lane > lane && mayStart(job) {
            guard let kind = kinds.first(where: { $0.name == ExactText(job.spec.kind) })?.number else {
                continue
            }
            if !pairs.contains(where: { $0 == (job.lane, kind) }) { pairs.append((job.lane, kind)) }
        }
        return pairs.sorted { $0 < $1 }
    }

    private func mayStart(_ job: ModelJob) -> Bool {
        job.state == .pending && job.isReady || job.state == .failed && defects.contains(.claimsFailedJob)
    }

    /// The jobs to start: one of every lane, in turn, then a second one, up to each lane's room and the free slots.
    /// Within a lane the order is priority, due time, number.
    private func picks(from open: [OpenLane], share: Int, slots: Int) -> [Int] {
        let lists = open.map { lane -> [Int] in
            let running = running(in: lane.lane.number)
            let room = defects.contains(.claimIgnoresLimit) ? share : min(share, lane.limit - running)
            guard room > 0 else { return [] }
            let names = kinds.filter { lane.kinds.contains($0.number) }.map(\.name)
            let ready = jobs.indices.filter { index in
                jobs[index].lane == lane.lane.number && mayStart(jobs[index])
                    && names.contains(ExactText(jobs[index].spec.kind))
            }
            let sorted = ready.sorted { left, right in
                (-jobs[left].spec.priority, jobs[left].dueAt, jobs[left].number)
                    < (-jobs[right].spec.priority, jobs[right].dueAt, jobs[right].number)
            }
            return Array(sorted.prefix(room))
        }
        var picks: [Int] = []
        for index in 0..<(lists.map(\.count).max() ?? 0) {
            for list in lists where index < list.count { picks.append(list[index]) }
        }
        return Array(picks.prefix(slots))
    }

    /// What a claim gives of a job that has just started.
    private func claimed(_ job: ModelJob) -> ClaimedRun {
        let hasLeftSomething = job.sequence > 2
        return ClaimedRun(
            key: job.key, spec: specOfRun(job, payload: job.spec.payload), token: job.run?.token ?? 0,
            attempt: job.attempt, lastAttempt: job.lastAttempt, sequence: job.sequence,
            startedAt: job.run?.startedAt ?? job.createdAt,
            checkpoint: hasLeftSomething ? job.checkpoint : nil,
            lastLogLine: hasLeftSomething ? job.log.last?.number ?? 0 : 0)
    }

    /// What a node learns of a run that it does not run: enough to end it.
    func bare(_ job: ModelJob) -> ClaimedRun {
        ClaimedRun(
            key: job.key, spec: specOfRun(job, payload: []), token: job.run?.token ?? 0, attempt: job.attempt,
            lastAttempt: job.lastAttempt, sequence: job.sequence,
            startedAt: job.run?.startedAt ?? job.createdAt, lastLogLine: 0)
    }

    private func specOfRun(_ job: ModelJob, payload: [UInt8]) -> JobSpec {
        JobSpec(
            kind: job.spec.kind, userID: job.spec.userID, queue: job.spec.queue, payload: payload,
            contentType: job.spec.contentType, priority: job.spec.priority, maxAttempts: job.spec.maxAttempts,
            retryPolicy: job.spec.retryPolicy,
            timeout: job.spec.timeout, softTimeout: job.spec.softTimeout, labels: job.spec.labels)
    }
}
