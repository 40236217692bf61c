import JobModel
import JobStore
import JobWatch

/// The next step of a watch.
package enum WatchStep: Sendable {
    case item(WatchItem)
    /// There is nothing now; `onReady` says when there is.
    case wait
    /// Events have to be read from the database. `next` is to be called again once this has returned; an error ends the
    /// watch.
    case work(@Sendable () async throws(ServiceError) -> Void)
    /// The watch is over. Nil: all of its jobs are final.
    case end(ServiceError?)
}

/// A watch whose state was sent, and which follows what happens from there on. The reader pulls item after item; no task
/// waits for them, and there are very many idle watches: this is a single reference.
package struct Watch: Sendable {
    private enum Kind: Sendable {
        case uncounted(Subscription)
        /// Only where the number of watches is limited, so that the others take no memory for it.
        case counted(Counted)
    }

    private final class Counted: Sendable {
        let subscription: Subscription
        let permit: UserQuotas.WatchPermit

        init(_ subscription: Subscription, _ permit: UserQuotas.WatchPermit) {
            self.subscription = subscription
            self.permit = permit
        }
    }

    private let kind: Kind

    init(_ subscription: Subscription, _ permit: UserQuotas.WatchPermit?) {
        kind = permit.map { .counted(Counted(subscription, $0)) } ?? .uncounted(subscription)
    }

    var subscription: Subscription {
        switch kind {
        case .uncounted(let subscription): subscription
        case .counted(let counted): counted.subscription
        }
    }

    /// Registers `wake`, which is called once after each `wait`, on any thread, when there is more. It must not block.
    package func onReady(_ wake: @escaping @Sendable () -> Void) { subscription.onReady(wake) }

    /// Ends the watch. Called once.
    package func close() {
        subscription.close()
        if case .counted(let counted) = kind { counted.permit.close() }
    }

    /// The next step. It does not block.
    package func next() -> WatchStep {
        let subscription = subscription
        switch subscription.take() {
        case .heartbeat: return .item(.heartbeat(at: .now, isComplete: false))
        case .over: return .end(.shuttingDown)
        case .action(.send(let update)):
            return .item(.update(subscription.namesNodes ? update : update.withoutNode()))
        case .action(.sendLog(let id, let lines)): return .item(.log(id, lines))
        case .action(.read(let sequences)):
            return .work { () async throws(ServiceError) in try await subscription.read(sequences) }
        case .action(.end): return .end(nil)
        case .action(.overflow): return .end(.readerTooSlow)
        case .action(.wait): return .wait
        }
    }
}

extension Subscription {
    /// Reads the events that it lacks: those of each job after a sequence.
    fileprivate func read(_ sequences: [JobID: Int64]) async throws(ServiceError) {
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
        // A job that was removed meanwhile has no more events.
        let byID = sequences.keys.map { [numbers] id in (id, numbers[id].flatMap { events[$0] } ?? []) }
        caughtUp(Dictionary(uniqueKeysWithValues: byID))
    }
}
