internal import JobCore

extension KeySource {
    /// Decides when the keys are fetched. It knows neither the keys nor the network.
    ///
    /// ```
    /// idle ──due or a miss──▶ fetching
    ///   ▲                        │
    ///   └───────fetched──────────┘
    /// ```
    struct StateMachine: Sendable {
        private enum State {
            /// To fetching. `since`: when the last fetch began; nil: there was none.
            case idle(since: Timestamp?)
            /// To idle.
            case fetching(since: Timestamp)
        }

        private var state = State.idle(since: nil)
        /// What the last fetch has come to. False before the first one.
        private var hasSucceeded = false
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
            state = .fetching(since: now)
            return .fetch
        }

        enum MissAction: Equatable {
            case fetch
            /// For the fetch that is under way.
            case wait
            case refuse(AuthenticationError)
        }

        /// A token's key is not among those that are known.
        mutating func miss(now: Timestamp) -> MissAction {
            switch state {
            case .fetching: return .wait
            case .idle(let since):
                // Anybody can make up key ids, so their number must not decide how often the issuer is asked.
                guard Self.isOver(pauseMin, since: since, now: now) else { return .refuse(refusal) }
                state = .fetching(since: now)
                return .fetch
            }
        }

        mutating func fetched(isGood: Bool) {
            guard case .fetching(let since) = state else { return }
            state = .idle(since: since)
            hasSucceeded = isGood
        }

        /// For a token whose key is not there after all. A key that could not be looked for may exist.
        var refusal: AuthenticationError { hasSucceeded ? .unknownKey : .keySourceUnavailable }

        /// A clock that was set back has not stopped time.
        private static func isOver(_ pause: Duration, since: Timestamp?, now: Timestamp) -> Bool {
            guard let since else { return true }
            return now < since || now >= since.advanced(by: pause)
        }
    }
}
