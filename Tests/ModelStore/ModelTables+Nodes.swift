package import JobModel
import Support

extension ModelTables {
    package mutating func register(
        _ description: NodeDescription, lease: Duration, at now: Timestamp
    ) -> (node: Int32, kinds: [String: Int32]) {
        let numbers = keep(description.kinds)
        lastNode += 1
        let node = ModelNode(
            number: lastNode, name: description.name, leaseUntil: now.advanced(by: lease))
        nodes.append(node)
        return (node.number, numbers)
    }

    /// - Returns: the numbers of the kinds. Nil: the node's lease has ended.
    package mutating func announce(
        _ kinds: [String: Interruption], by node: Int32, at now: Timestamp
    ) -> [String: Int32]? {
        guard self.node(node)?.isAlive(at: now) ?? false else { return nil }
        return keep(kinds)
    }

    /// Keeps the policies of kinds, in the order of their names.
    private mutating func keep(_ kinds: [String: Interruption]) -> [String: Int32] {
        var numbers: [String: Int32] = [:]
        for (name, policy) in kinds.sorted(by: { ExactText($0.key) < ExactText($1.key) }) {
            let index = kind(ExactText(name))
            self.kinds[index].onInterruption = policy
            numbers[name] = self.kinds[index].number
        }
        return numbers
    }

    package mutating func renew(
        _ node: Int32, lease: Duration, known: [RunFence], at now: Timestamp
    ) -> Renewal {
        let index = nodes.firstIndex { node == $0.number }
        let isAlive = index.map { nodes[$0].isAlive(at: now) || defects.contains(.renewsEndedLease) } ?? false
        if isAlive, let index { nodes[index].leaseUntil = now.advanced(by: lease) }
        return Renewal(
            isAlive: isAlive, cancels: cancelRequests(of: node),
            strays: jobs.filter { job in
                guard let fence = job.fence else { return false }
                return job.run?.node == node && !known.contains(fence)
            }.map { bare($0) },
            ghosts: known.filter { fence in
                !jobs.contains { $0.run?.node == node && $0.fence == fence }
            },
            hasPeers: nodes.contains { $0.number != node && $0.isAlive(at: now) })
    }

    package mutating func endNode(_ node: Int32, at now: Timestamp) {
        for index in nodes.indices where nodes[index].number == node && nodes[index].endedAt == nil {
            nodes[index].endedAt = now
        }
    }

    package mutating func orphans(at now: Timestamp) -> [OrphanedRun] {
        for index in nodes.indices where nodes[index].endedAt == nil && nodes[index].leaseUntil <= now {
            nodes[index].endedAt = now
        }
        return jobs.compactMap { job in
            guard let run = job.run, let node = node(run.node),
                node.endedAt != nil || defects.contains(.takesOrphansEarly),
                let kind = kinds.first(where: { $0.name == ExactText(job.spec.kind) })
            else { return nil }
            return OrphanedRun(
                run: bare(job), node: node.name, onInterruption: kind.onInterruption,
                cancelNote: job.cancelNote)
        }
    }

    /// That of `JobStore`.
    private static let promotedAtOnce = 1000

    package mutating func promoteDue(at now: Timestamp) -> (promoted: Int, next: Duration?) {
        let scheduled = jobs.indices.filter { jobs[$0].state == .pending && !jobs[$0].isReady }
            .sorted { (jobs[$0].dueAt, $0) < (jobs[$1].dueAt, $1) }
        let due = defects.contains(.neverPromotes) ? [] : scheduled.filter { jobs[$0].dueAt <= now }
        let promoted = due.prefix(Self.promotedAtOnce)
        for index in promoted { jobs[index].isReady = true }
        let next = scheduled.first { !jobs[$0].isReady }
        return (
            promoted.count, next.map { .microseconds(max(0, jobs[$0].dueAt.microseconds - now.microseconds)) }
        )
    }

    package mutating func removeFinished(
        olderThan retention: Duration, atMost countMax: Int, at now: Timestamp
    ) -> Int {
        let old = jobs.filter { job in
            job.finishedAt.map { $0.advanced(by: retention) < now } ?? false
        }.sorted { ($0.finishedAt ?? now, $0.number) < ($1.finishedAt ?? now, $1.number) }.prefix(countMax)
        let gone = Set(old.map(\.number))
        jobs.removeAll { gone.contains($0.number) }
        return gone.count
    }

    mutating func trimAudit(olderThan retention: Duration, atMost countMax: Int, at now: Timestamp) -> Int {
        let old = audit.prefix { $0.advanced(by: retention) < now }.prefix(countMax)
        audit.removeFirst(old.count)
        return old.count
    }
}
