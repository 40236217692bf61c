internal import JobModel
import Support

extension KeySource {
    /// Decides when the keys are fetched. It knows neither the keys nor the network.
    ///
    /// ```
    /// idle ──due or a miss──▶ fetching
    ///   ▲                        │
    ///   └────fetched, failed─────┘
    /// ```
    struct StateMachine: Sendable {
        private enum State {
            /// No fetch is in flight; becomes `fetching`. `since` is when the last fetch began, nil before
            /// the first one.
            case idle(since: Timestamp?)
            /// A fetch is in flight; becomes `idle`.
            case fetching(since: Timestamp)
        }

        /// The most ids that are remembered. Anyone can invent ids, so the memory is emptied when it is full.
        static let idsMax = 1_000

        private var state = State.idle(since: nil)
        /// Whether the last fetch succeeded; false before the first one.
        private var hasSucceeded = false
        /// The number of fetches that have begun, and the number of the last one that succeeded, counted from
        /// 1.
        private var begunCount = 0
        private var lastGood = 0
        /// The ids of keys that were not found, each with the number of the fetch that has looked for it or
        /// will: the first fetch to begin after a token named it, or the first in which it was missing again.
        private var lookUps: [ExactText: Int] = [:]
        private let interval: Duration
        private let pauseMin: Duration

        /// - Parameters:
        ///   - interval: the time between two fetches if the last one succeeded.
        ///   - pauseMin: the shortest time between two fetches in any case.
        init(interval: Duration, pauseMin: Duration) {
            self.interval = interval
            self.pauseMin = pauseMin
        }

        enum TickAction: Equatable {
            case fetch
            case nothing
        }

        /// Handles the passing of time: begins a fetch if one is due.
        mutating func tick(now: Timestamp) -> TickAction {
            guard case .idle(let since) = state,
                Self.isOver(hasSucceeded ? interval : pauseMin, since: since, now: now)
            else { return .nothing }
            begin(now)
            return .fetch
        }

        enum MissAction: Equatable {
            case fetch
            /// A fetch is in flight; the caller waits for it.
            case wait
            case refuse(AuthenticationError)
        }

        /// Handles a token whose key is not known. `id` is nil if the token names none.
        mutating func miss(_ id: ExactText?, now: Timestamp) -> MissAction {
            if let id, lookUps[id] == nil { remember(id, begunCount + 1) }
            switch state {
            case .fetching: return .wait
            case .idle(let since):
                // Anyone can invent key ids, so unknown ids must not make the fetches more frequent.
                guard Self.isOver(pauseMin, since: since, now: now) else { return .refuse(refusal(of: id)) }
                begin(now)
                return .fetch
            }
        }

        /// Handles the end of a fetch.
        ///
        /// - Parameter withdrawn: the ids of keys that were in the set before and are not any more.
        mutating func fetched(withdrawn: [ExactText]) {
            guard case .fetching(let since) = state else { return }
            state = .idle(since: since)
            hasSucceeded = true
            lastGood = begunCount
            for id in withdrawn { remember(id, begunCount) }
        }

        mutating func failed() {
            guard case .fetching(let since) = state else { return }
            state = .idle(since: since)
            hasSucceeded = false
        }

        /// The error for a token whose key was not found. The key may have been published since the last
        /// fetch began, so an id is unknown only if a fetch that began after it was first named has
        /// succeeded. An id that was forgotten counts as never named.
        func refusal(of id: ExactText?) -> AuthenticationError {
            guard hasSucceeded else { return .keySourceUnavailable }
            guard let id else { return .unknownKey }
            guard let lookUp = lookUps[id], lookUp <= lastGood else { return .keySourceUnavailable }
            return .unknownKey
        }

        private mutating func begin(_ now: Timestamp) {
            begunCount += 1
            state = .fetching(since: now)
        }

        private mutating func remember(_ id: ExactText, _ lookUp: Int) {
            if lookUps.count >= Self.idsMax { lookUps.removeAll(keepingCapacity: true) }
            lookUps[id] = lookUp
        }

        /// Whether the pause has passed. If the clock was set back, it counts as passed, or fetches would
        /// stop until then.
        private static func isOver(_ pause: Duration, since: Timestamp?, now: Timestamp) -> Bool {
            guard let since else { return true }
            return now < since || now >= since.advanced(by: pause)
        }
    }
}
