package import JobModel
import Logging
import Support
import Synchronization

/// How jobs come to this node: by claims, and by starting as they are enqueued. Both hold the slots that they may fill
/// until they are over, so together they never ask for more than are free.
extension WorkerNode {
    func claimLoop() async {
        var cursor = ClaimCursor()
        // Whoever fills a paused queue would wake us in vain with each commit.
        var pauses = Backoff(initial: .milliseconds(1), most: .milliseconds(16))
        while !Task.isCancelled {
            let idleSince = runtime.now()
            await claimSignal.wait(atMost: configuration.pollInterval, on: runtime)
            let wasIdle = idleSince.duration(to: runtime.now()) > pauses.most
            guard await claimTurns(&cursor), !wasIdle else {
                pauses.reset()
                continue
            }
            try? await runtime.sleep(for: pauses.next(random: runtime.random()))
        }
    }

    /// Claims until nothing is left that could start. Two claims overlap where they cannot be in each other's way: the
    /// second one looks for lanes behind those that the first one has locked. True: there was nothing for this node.
    private func claimTurns(_ cursor: inout ClaimCursor) async -> Bool {
        var turn = Turn()
        var turns = 0
        var hasStarted = false
        var foundNothing = false
        var lanesSeen: Int64 = 0
        var last: ClaimTask?
        var hasMore = true
        while hasMore, !Task.isCancelled {
            guard let grant = beginClaim() else {
                // The claim under way may hold the slots that are free once it is over.
                guard let before = last else { break }
                last = nil
                guard let claimed = await before.value else { break }
                turn.add(claimed)
                continue
            }
            let (claim, outlook) = await claim(under: grant, from: cursor)
            if let before = last {
                last = nil
                guard let claimed = await before.value else {
                    _ = await claim.value
                    break
                }
                turn.add(claimed)
            }
            if let outlook {
                cursor = outlook.cursor
                lanesSeen = max(lanesSeen, cursor.lane)
                last = claim
                continue
            }
            guard let claimed = await claim.value else { break }
            turn.add(claimed)
            cursor = claimed.cursor
            hasMore = claimed.hasMore
            hasStarted = hasStarted || turn.startedCount > 0
            lanesSeen = max(lanesSeen, cursor.lane)
            if claimed.runs.isEmpty, claimed.isContended {
                // Another node holds the lanes for some milliseconds, and may take nothing. Right behind it there is
                // nothing to be had: go on elsewhere, and begin the turn anew.
                try? await runtime.sleep(for: .milliseconds(5))
                cursor.lane = Int64(runtime.random() * Double(lanesSeen + 1))
                turns = 0
                hasMore = true
                continue
            }
            guard cursor.lane == 0 else { continue }
            foundNothing = !turn.foundLanes
            if foundNothing { state.withLock { $0.mayWait = false } }
            if turn.startedCount == 0, turns > 0 { break }
            turn = Turn()
            turns += 1
        }
        _ = await last?.value
        return foundNothing && !hasStarted
    }

    /// Of the turn over the lanes that is under way. A whole one that starts nothing is the last, however many lanes wait
    /// for room.
    private struct Turn {
        var startedCount = 0
        var foundLanes = false

        mutating func add(_ claimed: ClaimResult) {
            startedCount += claimed.runs.count
            foundLanes = foundLanes || claimed.foundLanes
        }
    }

    private typealias ClaimTask = Task<ClaimResult?, Never>

    /// Returns once the claim is over, or the next one may begin.
    private func claim(
        under grant: StartGrant, from cursor: ClaimCursor
    ) async -> (claim: ClaimTask, outlook: ClaimOutlook?) {
        let (outlooks, told) = AsyncStream<ClaimOutlook>.makeStream()
        let request = ClaimRequest(
            slots: grant.slots, kinds: grant.kinds, cursor: cursor, defaultUserLimit: grant.defaultUserLimit)
        let claim = runtime.start { [self] () -> ClaimResult? in
            defer {
                endClaim(grant)
                told.finish()
            }
            do throws(StoreError) {
                let claimed = try await store.claim(request) { [self] outlook in
                    state.withLock { $0.grants[grant.id] = outlook.runsMax }
                    told.yield(outlook)
                }
                start(claimed.runs, under: grant)
                state.withLock { state in
                    state.isBehind = claimed.runs.count == grant.slots
                    // Before this claim counts as over: an end that it did not see must find one or the other.
                    if claimed.foundLanes { state.mayWait = true }
                }
                return claimed
            } catch {
                logger.warning("jobs could not be claimed", metadata: ["error": "\(error)"])
                return nil
            }
        }
        return (claim, await outlooks.first { _ in true })
    }

    /// Nil when nothing may be claimed now.
    private func beginClaim() -> StartGrant? {
        state.withLock { state in
            guard !state.kinds.isEmpty else { return nil }
            let free = state.freeSlots(of: configuration)
            if free == 0 { state.isBehind = true }
            // While nobody waits for slots, half of them are enough, and leave the others to jobs that just come.
            let slots = state.isBehind ? free : (free + 1) / 2
            let grant = grant(min(slots, ClaimRequest.runsMax), &state)
            if grant != nil { state.claiming += 1 }
            return grant
        }
    }

    private func endClaim(_ grant: StartGrant) {
        state.withLock { $0.claiming -= 1 }
        release(grant)
    }

    private func release(_ grant: StartGrant) {
        let drained = state.withLock { state in
            state.grants[grant.id] = nil
            return state.takeDrainedIfIdle()
        }
        for waiter in drained { waiter.resume() }
    }

    /// Nil when there is nothing to hold, or nothing may start.
    private func grant(_ slots: Int, _ state: inout State) -> StartGrant? {
        guard slots > 0, !state.isStopping, state.hasLease else { return nil }
        state.nextGrant += 1
        state.grants[state.nextGrant] = slots
        return StartGrant(
            id: state.nextGrant, slots: slots, kinds: state.kinds,
            defaultUserLimit: configuration.defaultUserLimit)
    }

    private func start(_ claimed: ClaimedRun, under grant: StartGrant) {
        guard let runner = runners[claimed.spec.kind] else {
            // The claim names our kinds, so this is a bug; the job is not lost, the lease's renewal gives it back.
            logger.error(
                "a job of a kind without handler was claimed", metadata: ["kind": "\(claimed.spec.kind)"])
            return
        }
        let run = ActiveRun(
            claimed, definition: runner.definition, grace: configuration.grace, store: store,
            runtime: runtime, publish: publishAndSave)
        let (isFirst, isUnwanted, cancelReason) = state.withLock { state in
            state.running[claimed.token] = run
            // From here on it has its slot as a run.
            state.grants[grant.id, default: 1] -= 1
            state.unwritten += 1
            let isUnwanted = state.isStopping || !state.hasLease || grant.id < state.firstGrantOfLease
            return (
                state.running.count == 1, isUnwanted, state.stopped.removeValue(forKey: claimed.token)
            )
        }
        if let cancelReason { run.stop(.cancelled(reason: cancelReason)) }
        // The node began to stop, or began anew under another lease, while the claim was on its way: the run is given
        // back unseen.
        if isUnwanted { run.stop(.released, grace: .zero) }
        if isFirst { superviseSignal.wake() }
        begin(run, runner)
    }
}

extension WorkerNode: RunStarter {
    package func beginStart(upTo count: Int) -> StartGrant? {
        state.withLock { state in
            guard !state.isBehind else { return nil }
            return grant(min(count, state.freeSlots(of: configuration)), &state)
        }
    }

    package func start(_ runs: [ClaimedRun], under grant: StartGrant) {
        for run in runs { start(run, under: grant) }
    }

    package func endsAreTold() { wakeIfJobsMayWait() }

    package func endStart(_ grant: StartGrant) {
        release(grant)
        // A claim may have found no slot because this held the last ones.
        if state.withLock(\.isBehind) { claimSignal.wake() }
    }
}

extension WorkerNode.State {
    fileprivate func freeSlots(of configuration: WorkerNode.Configuration) -> Int {
        max(0, configuration.concurrency - running.count - grants.values.reduce(0, +))
    }

    /// Those who wait for the last end, when it has been; each is resumed once.
    mutating func takeDrainedIfIdle() -> [CheckedContinuation<Void, Never>] {
        unwritten == 0 && grants.isEmpty ? takeDrained() : []
    }

    mutating func takeDrained() -> [CheckedContinuation<Void, Never>] {
        defer { drained = [] }
        return drained
    }
}
