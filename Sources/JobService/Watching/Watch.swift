import JobModel
import JobStore
package import JobWatch

/// The next step of a watch.
package enum WatchStep: Sendable {
    case item(WatchItem)
    /// There is nothing now; `onReady` says when there is.
    case wait
    /// Events have to be read from the database. `nextStep` is to be called again once this has returned; an error ends the
    /// watch.
    case work(@Sendable () async throws(ServiceError) -> Void)
    /// The watch is over. Nil: all of its jobs are final or removed.
    case end(ServiceError?)
}

/// A watch, as the hub keeps it: there are very many idle watches, and an object of its own for each would take memory and
/// time. After its state was sent, the reader pulls step after step; no task waits for them.
package typealias Watch = Subscription

extension Watch {
    /// Registers `wake`, which is called once after each `wait`, on any thread, when there is more. It must not block.
    package func onReady(_ wake: @escaping @Sendable () -> Void) { setWaker(wake) }

    /// Ends the watch. Called once.
    package func close() { unsubscribe() }

    /// The next step. It does not block.
    package func nextStep() -> WatchStep {
        switch take() {
        case .heartbeat: .item(.heartbeat(at: .now, resumeToken: resumeToken()))
        case .over: .end(.shuttingDown)
        case .action(.send(let update)): .item(.update(namesNodes ? update : update.withoutNode()))
        case .action(.sendLog(let id, let lines)): .item(.log(id, lines))
        case .action(.read(let sequences)):
            .work { () async throws(ServiceError) in try await self.read(sequences) }
        case .action(.end): .end(nil)
        case .action(.overflow): .end(.readerTooSlow)
        case .action(.wait): .wait
        }
    }

    /// Reads the events that it lacks: those of each job after a sequence.
    private func read(_ sequences: [JobID: Int64]) async throws(ServiceError) {
        var numbers = numbers
        // A watch of a user or a queue learns of its jobs as they come.
        let unknown = sequences.keys.filter { numbers[$0] == nil }
        if !unknown.isEmpty {
            let locators = try await ServiceError.mapping { () async throws(StoreError) in
                try await hub.store.locators(of: unknown, for: users)
            }
            numbers.merge(locators.mapValues { $0.number }) { known, _ in known }
        }
        var wanted: [Int64: Int64] = [:]
        for (id, sequence) in sequences {
            if let number = numbers[id] { wanted[number] = sequence }
        }
        let events = try await ServiceError.mapping { [wanted] () async throws(StoreError) in
            try await hub.store.events(after: wanted)
        }
        let byID = sequences.keys.map { [numbers] id in
            // The number may be that of another job by now.
            (id, numbers[id].flatMap { events[$0]?.filter { $0.jobID == id } } ?? [])
        }
        // A job without events may have been removed meanwhile.
        let removed = try await removed(among: byID.lazy.filter { $0.1.isEmpty }.map(\.0), numbers)
        caughtUp(Dictionary(uniqueKeysWithValues: byID), removed: removed)
    }

    /// A job that was removed and added again is another one.
    private func removed(
        among ids: [JobID], _ numbers: [JobID: Int64]
    ) async throws(ServiceError) -> Set<JobID> {
        guard !ids.isEmpty else { return [] }
        let found = try await ServiceError.mapping { () async throws(StoreError) in
            try await hub.store.locators(of: ids, for: users)
        }
        return Set(ids.filter { found[$0] == nil || found[$0]?.number != numbers[$0] })
    }
}
