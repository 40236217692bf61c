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
            /// To fetching. `since`: when the last fetch began; nil: there was none.
            case idle(since: Timestamp?)
            /// To idle.
            case fetching(since: Timestamp)
        }

        /// Anybody can make up ids: the memory of them is emptied when it is full.
        static let idsMax = 1_000

        private var state = State.idle(since: nil)
        /// Whether the last fetch succeeded; false before the first one.
        private var hasSucceeded = false
        /// Fetches that have begun, and the last of them that was good, counted from 1.
        private var begunCount = 0
        private var lastGood = 0
        /// Ids of keys that were not there, and the fetch that has looked for each or will: the first to begin after a
        /// token named it, or the one that brought it no longer.
        private var lookUps: [ExactText: Int] = [:]
        private let interval: Duration
        private let pauseMin: Duration

        /// - Parameters:
        ///   - interval: between two fetches when all is well.
        ///   - pauseMin: between two fetches whatever comes.
        init(interval: Duration, pauseMin: Duration) {
            self.interval = interval
            self.pauseMin = pauseMin
        }

        enum TickAction: Equatable {
            case fetch
            case nothing
        }

        /// Time has passed.
        mutating func tick(now: Timestamp) -> TickAction {
            guard case .idle(let since) = state,
                Self.isOver(hasSucceeded ? interval : pauseMin, since: since, now: now)
            else { return .nothing }
            begin(now)
            return .fetch
        }

        enum MissAction: Equatable {
            case fetch
            /// For the fetch that is under way.
            case wait
            case refuse(AuthenticationError)
        }

        /// A token's key is not among those that are known. Nil: it names none.
        mutating func miss(_ id: ExactText?, now: Timestamp) -> MissAction {
            if let id, lookUps[id] == nil { remember(id, begunCount + 1) }
            switch state {
            case .fetching: return .wait
            case .idle(let since):
                // Anybody can make up key ids, so their number must not decide how often the issuer is asked.
                guard Self.isOver(pauseMin, since: since, now: now) else { return .refuse(refusal(of: id)) }
                begin(now)
                return .fetch
            }
        }

        /// - Parameter withdrawn: the ids of keys that were there before.
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

        /// For a token whose key is not there after all. It may have been published since the last fetch began: only an
        /// id that was looked up after it was named first is nobody's. One that was forgotten was never named.
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

        /// A clock that was set back has not stopped time.
        private static func isOver(_ pause: Duration, since: Timestamp?, now: Timestamp) -> Bool {
            guard let since else { return true }
            return now < since || now >= since.advanced(by: pause)
        }
    }
}
