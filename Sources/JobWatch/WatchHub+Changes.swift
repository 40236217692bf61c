package import JobModel
import JobStore
import Logging
import Support
import Synchronization

extension WatchHub: ChangeSubscriber {
    private static let jobsReadAtOnce = 500
    /// Logs may be long.
    private static let logsReadAtOnce = 16
    private static let unknownValuesMax = 100

    /// Watches of named jobs hear of this node's commits at once. Watches of users and queues hear of everything from the
    /// log, which leaves nothing out.
    package var interest: ChangeInterest {
        state.withLock { state in
            guard state.byLane.isEmpty else { return .allNodes }
            return state.byJob.isEmpty ? .cancels : .otherNodes
        }
    }

    // MARK: This node

    package func receive(_ changes: [LocalChange]) {
        let addressed = state.withLock { state in
            changes.compactMap { change in
                recipients(of: change, &state).map { (change: change, recipients: $0) }
            }
        }
        for (change, recipients) in addressed { send(change, to: recipients) }
    }

    /// Nil: no watch needs it. A watch that is just beginning reads what is committed by itself.
    private func recipients(of change: LocalChange, _ state: inout State) -> Recipients? {
        var recipients: Recipients
        switch change {
        case .event(_, let key), .log(let key, _, _):
            recipients = state.recipients(of: key.number)
        case .progress(let run, let progress, let isSaved):
            let number = run.key.number
            recipients = state.recipients(of: number, in: LaneName(run.spec))
            if !recipients.named.isEmpty {
                if !isSaved {
                    state.unsaved.publish(progress.updatedAt, attempt: run.attempt, of: number)
                } else if state.unsaved.save(progress.updatedAt, attempt: run.attempt, of: number) {
                    recipients.named = .empty
                }
            }
        case .uncertain:
            // Also where there is no watch yet: one that is just beginning may have read before that commit.
            state.mustRecheck = true
            return nil
        case .cancelRequested:
            return nil
        }
        return recipients.isEmpty ? nil : recipients
    }

    private func send(_ change: LocalChange, to recipients: Recipients) {
        switch change {
        case .event(let event, _):
            recipients.send(WatchUpdate(event))
        case .progress(let run, let progress, let isSaved):
            let allHaveIt = recipients.send(WatchUpdate(of: run.key.id, attempt: run.attempt, progress))
            if allHaveIt, !isSaved, !recipients.named.isEmpty {
                state.withLock { $0.unsaved.allHave(progress.updatedAt, of: run.key.number) }
            }
        case .log(let key, let lines, let isSaved):
            recipients.named.forEach { watch in
                guard watch.names(key.id, as: key.number) else { return }
                watch.receive(lines, isSaved: isSaved, of: key.id)
            }
        case .uncertain, .cancelRequested:
            break
        }
    }

    // MARK: The change log

    package func deliver(_ changes: [RemoteChange]) async throws(StoreError) {
        if !changes.isEmpty {
            announce(changes)
            let lanes = try await watchedLanes(of: changes)
            // The reports come first, because the end of an attempt drops its progress. A watch of a user or a queue that
            // gets a job's first events from this batch could not take its progress before them.
            let early = try await deliverReports(changes, lanes)
            try await deliverEvents(changes.filter { lanes[$0.lane] != nil })
            for (update, recipients) in early { recipients.send(update) }
        }
        recheckIfNeeded()
    }

    package func delivered(upTo place: ChangePlace) {
        state.withLock { $0.place = place }
    }

    /// Named jobs are looked at again. What has happened to the jobs of a user or a queue cannot be found out, so those
    /// watches end and their clients begin again with a snapshot.
    package func changesWereMissed() {
        recheck()
        let watches = state.withLock { $0.byLane.all }
        for watch in watches { watch.end() }
    }

    /// Every watch may be wrong about its jobs, and about the jobs, users and queues that numbers in the database stand for.
    package func historyWasLost() {
        endAll()
    }

    /// Says to watches of named jobs up to which sequence there are events. They read those that they do not have.
    private func announce(_ changes: [RemoteChange]) {
        state.withLock { state in
            for change in changes where change.sequence > 0 {
                state.byJob[change.number]?.forEach { watch in
                    guard let id = watch.jobs[change.number] else { return }
                    watch.noteEvents(of: id, upTo: change.sequence)
                }
            }
        }
    }

    /// The lanes of these changes that some watch of a user or a queue includes.
    private func watchedLanes(of changes: [RemoteChange]) async throws(StoreError) -> [Int64: LaneName] {
        guard !state.withLock(\.byLane.isEmpty) else { return [:] }
        let ids = Set(changes.map(\.lane))
        // A copy: the cache may be emptied while this batch needs it.
        var lanes = state.withLock { state in
            var known: [Int64: LaneName] = [:]
            for id in ids { known[id] = state.lanes[id] }
            return known
        }
        let unknown = ids.filter { lanes[$0] == nil }
        if !unknown.isEmpty {
            let found = try await store.lanes(Array(unknown))
            state.withLock { state in
                if state.lanes.count + found.count > configuration.lanesMax { state.lanes = [:] }
                state.lanes.merge(found) { _, new in new }
            }
            lanes.merge(found) { _, new in new }
        }
        return state.withLock { [lanes] state in
            lanes.filter { !state.byLane.watches(of: $0.value).isEmpty }
        }
    }

    /// Sends progress, and log lines to the watches that want them. The log does not say which of them is new.
    ///
    /// - Returns: the progress of jobs that have events among the changes too, and the watches of users and queues that
    ///   have to get it again after these. A watch that has it ignores it then.
    private func deliverReports(
        _ changes: [RemoteChange], _ lanes: [Int64: LaneName]
    ) async throws(StoreError) -> [(WatchUpdate, Recipients)] {
        let reports = changes.filter { $0.sequence == 0 }
        let watched = state.withLock { state in
            reports.filter { state.byJob[$0.number] != nil || lanes[$0.lane] != nil }
        }
        let laneOf = Dictionary(watched.map { ($0.number, $0.lane) }) { first, _ in first }
        guard !laneOf.isEmpty else { return [] }
        let withEvents = Set(changes.lazy.filter { $0.sequence > 0 }.map(\.number))
        var early: [(WatchUpdate, Recipients)] = []
        for (number, latest) in try await store.progress(of: Array(laneOf.keys)) {
            var recipients = state.withLock { state in
                var recipients = state.recipients(of: number)
                recipients.others = state.byLane.watches(of: latest.lane)
                return recipients
            }
            let update = WatchUpdate(of: latest.job, attempt: latest.attempt, latest.progress)
            recipients.send(update)
            guard withEvents.contains(number) else { continue }
            recipients.named = .empty
            early.append((update, recipients))
        }
        try await deliverLogs(of: Array(laneOf.keys))
        return early
    }

    /// Reads each log from the last line on that all of its watches have.
    private func deliverLogs(of numbers: [Int64]) async throws(StoreError) {
        let logged = state.withLock { state in
            numbers.compactMap { number -> WantedLog? in
                var wanted: WantedLog?
                state.byJob[number]?.forEach { watch in
                    guard let job = watch.jobs[number], let line = watch.lastLogLine(of: job) else { return }
                    // Watches that know the number as that of another job are about to end.
                    if wanted?.job == job || wanted == nil {
                        wanted = WantedLog(number: number, job: job, after: min(wanted?.after ?? line, line))
                    }
                }
                return wanted
            }
        }
        for start in stride(from: 0, to: logged.count, by: Self.logsReadAtOnce) {
            let chunk = logged[start..<min(start + Self.logsReadAtOnce, logged.count)]
            let read = try await store.knownLogs(of: Array(chunk))
            for level in read.unknown { warn(of: level, "lines of the log are not sent to watches") }
            for wanted in chunk {
                guard let lines = read.logs[wanted.number] else { continue }
                let watches = state.withLock { $0.byJob[wanted.number] ?? .empty }
                watches.forEach { watch in
                    guard watch.names(wanted.job, as: wanted.number) else { return }
                    watch.receive(lines, isSaved: true, of: wanted.job)
                }
            }
        }
    }

    /// Sends the events of these changes to watches of users and queues.
    ///
    /// The database may have later events by now. Those have changes of their own, which come with a later read, and are
    /// left out here: so each event is sent once, also to a watch that does not keep its job's position.
    private func deliverEvents(_ changes: [RemoteChange]) async throws(StoreError) {
        var sequences: [Int64: ClosedRange<Int64>] = [:]
        for change in changes where change.sequence > 0 {
            let before = sequences[change.number] ?? change.sequence...change.sequence
            sequences[change.number] =
                min(before.lowerBound, change.sequence)...max(before.upperBound, change.sequence)
        }
        let numbers = Array(sequences.keys)
        for start in stride(from: 0, to: numbers.count, by: Self.jobsReadAtOnce) {
            let chunk = numbers[start..<min(start + Self.jobsReadAtOnce, numbers.count)]
            let after = Dictionary(
                uniqueKeysWithValues: chunk.map { ($0, (sequences[$0]?.lowerBound ?? 1) - 1) })
            let read = try await store.knownEvents(after: after)
            for event in read.unknown {
                skip(event, upTo: sequences[event.number]?.upperBound ?? 1)
            }
            for (number, events) in read.events {
                for event in events where sequences[number]?.contains(event.sequence) == true {
                    let update = WatchUpdate(event)
                    for watch in watches(ofUser: event.userID, queue: event.queue) { watch.receive(update) }
                }
            }
        }
    }

    /// Leaves out an event whose type only a newer version knows. Watches that include its job promise each event, so
    /// they read it themselves and end with the error; all others go on.
    private func skip(_ event: UnknownEvent, upTo sequence: Int64) {
        warn(of: event.value, "watches of users and queues that include its job end")
        for watch in watches(ofUser: event.userID, queue: event.queue) {
            watch.noteEvents(of: event.job, upTo: sequence)
        }
    }

    private func watches(ofUser userID: ExactText, queue: String) -> [Subscription] {
        state.withLock { $0.byLane.watches(of: LaneName(userID: userID, queue: queue)) }
    }

    /// Logs each value once, and a bounded number of values: there may be very many rows with one.
    private func warn(of value: ExactText, _ consequence: String) {
        let isNew = state.withLock { state in
            guard state.unknownValues.count < Self.unknownValuesMax else { return false }
            return state.unknownValues.insert(value).inserted
        }
        guard isNew else { return }
        logger.warning(
            "the change log has a value of a newer version: \(consequence)", metadata: ["value": "\(value)"])
    }
}
