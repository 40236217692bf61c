import JobModel
import Support

/// Decides when the claimer of a pool of runners claims, and from which lane on. Pure: it does nothing itself, and time
/// and random numbers come in. The driver (`Claimer`) executes one action after the other and answers each with the event
/// that the action names.
///
///     waiting ──woken──▶ beginning ──began──▶ joining ──▶ beginning, retrying or noting
///        ▲                   │                   │
///        └── the burst is over ◀─────────────────┘
///        └── pausing ◀── nothing was there for the pool
///
/// A *pass* goes once over all lanes, by as many claims as it takes. A *burst* is the passes from a wake until there is
/// nothing left that could start. Two claims overlap where they cannot be in each other's way: the second looks for lanes
/// behind those that the first has locked.
struct ClaimMachine: Sendable {
    enum Action: Equatable, Sendable {
        /// Wait for a wake, at most for the poll interval. Event: `woken`.
        case wait
        /// Reserve slots and begin a claim with them. Event: `noSlots`, or `began` once the claim is over or lets another
        /// begin.
        case claim(from: ClaimCursor)
        /// Wait for the end of the oldest claim under way. Event: `joined`.
        case join
        /// Note that no job waits for room in a lane, so that the ends of runs cause no claim. Event: `noted`.
        case noteEmptyBacklog
        /// Wait, and let no wake end that. Event: `paused`.
        case pause(Duration)
    }

    /// A whole pass over the lanes.
    private struct Pass {
        var startedCount = 0
        var foundLanes = false

        mutating func add(_ claimed: ClaimResult) {
            startedCount += claimed.runs.count
            foundLanes = foundLanes || claimed.foundLanes
        }
    }

    private struct Burst {
        /// The claimer had waited for longer than a pause lasts.
        let wasIdle: Bool
        var pass = Pass()
        var passesDone = 0
        var hasMore = true
        var hasStarted = false
        var foundNothing = false
        /// The highest lane that a claim got to.
        var lanesSeen: Int64 = 0
    }

    private enum State {
        /// `wait` was returned; its event is awaited, as in every state. Exits: `beginning`.
        case waiting
        /// `pause` was returned, after a burst that found nothing. Exits: `waiting`.
        case pausing
        /// `claim` was returned. An older claim may still be in flight. Exits: `joiningForSlots`, `joiningOlder`,
        /// `joiningNewest`, `waiting`, `pausing`.
        case beginning(hasOlder: Bool)
        /// `join` was returned for the only claim, which holds the slots that the next one needs. Exits: `beginning`,
        /// `waiting`, `pausing`.
        case joiningForSlots
        /// `join` was returned for the older of two claims. The newer one has said where another may begin, or is over
        /// (nil). Exits: `beginning`, `joiningNewest`, `draining`.
        case joiningOlder(newest: ClaimOutlook?)
        /// `join` was returned for the only claim, which is over; its result decides. Exits: all but `draining` and
        /// `joiningOlder`.
        case joiningNewest
        /// `join` was returned for the last claim of a burst in which one has failed. Exits: `waiting`, `pausing`.
        case draining
        /// `noteEmptyBacklog` was returned. Exits: `beginning`, `waiting`, `pausing`.
        case noting
        /// `pause` was returned, because another node holds the lanes. Exits: `beginning`.
        case retrying
    }

    /// The time for which another node may hold the lanes of its claim.
    private static let contentionDelay: Duration = .milliseconds(5)

    private var state = State.waiting
    /// Kept from burst to burst, so that all lanes are served in turn.
    private var cursor = ClaimCursor()
    private var burst = Burst(wasIdle: false)
    /// After bursts that found nothing: a client that fills a paused queue would otherwise cause a claim with each commit.
    private var pauses = Backoff(initial: .milliseconds(1), most: .milliseconds(16))

    /// The first action.
    var start: Action { .wait }

    /// - Parameter idle: how long the wait was.
    mutating func woken(after idle: Duration) -> Action {
        guard case .waiting = state else { return unexpected() }
        burst = Burst(wasIdle: idle > pauses.most)
        return claim(hasOlder: false)
    }

    /// All slots are taken, or no claim may begin.
    mutating func noSlots(random: @autoclosure () -> Double) -> Action {
        guard case .beginning(let hasOlder) = state else { return unexpected() }
        guard hasOlder else { return endBurst(random) }
        // The claim under way may hold slots that are free once it is over.
        state = .joiningForSlots
        return .join
    }

    /// - Parameter outlook: where another claim may begin beside this one; nil: this one is over.
    mutating func began(_ outlook: ClaimOutlook?) -> Action {
        guard case .beginning(let hasOlder) = state else { return unexpected() }
        guard hasOlder else { return proceed(behind: outlook) }
        state = .joiningOlder(newest: outlook)
        return .join
    }

    /// - Parameter claimed: nil: the claim has failed, which ends the burst.
    mutating func joined(_ claimed: ClaimResult?, random: @autoclosure () -> Double) -> Action {
        switch state {
        case .joiningForSlots:
            guard let claimed else { return endBurst(random) }
            burst.pass.add(claimed)
            return claim(hasOlder: false)
        case .joiningOlder(let newest):
            guard let claimed else {
                state = .draining
                return .join
            }
            burst.pass.add(claimed)
            return proceed(behind: newest)
        case .joiningNewest:
            guard let claimed else { return endBurst(random) }
            return decide(claimed, random)
        case .draining:
            return endBurst(random)
        case .waiting, .pausing, .beginning, .noting, .retrying:
            return unexpected()
        }
    }

    mutating func noted(random: @autoclosure () -> Double) -> Action {
        guard case .noting = state else { return unexpected() }
        return endPass(random)
    }

    mutating func paused(random: @autoclosure () -> Double) -> Action {
        switch state {
        case .pausing:
            state = .waiting
            return .wait
        case .retrying:
            // Right behind the other node there is nothing to be had: go on elsewhere, and count passes anew.
            cursor.lane = Int64(random() * Double(burst.lanesSeen + 1))
            burst.passesDone = 0
            burst.hasMore = true
            return claim(hasOlder: false)
        case .waiting, .beginning, .joiningForSlots, .joiningOlder, .joiningNewest, .draining, .noting:
            return unexpected()
        }
    }

    private mutating func claim(hasOlder: Bool) -> Action {
        state = .beginning(hasOlder: hasOlder)
        return .claim(from: cursor)
    }

    private mutating func proceed(behind outlook: ClaimOutlook?) -> Action {
        guard let outlook else {
            state = .joiningNewest
            return .join
        }
        moveCursor(to: outlook.cursor)
        return claim(hasOlder: true)
    }

    private mutating func moveCursor(to cursor: ClaimCursor) {
        self.cursor = cursor
        burst.lanesSeen = max(burst.lanesSeen, cursor.lane)
    }

    private mutating func decide(_ claimed: ClaimResult, _ random: () -> Double) -> Action {
        burst.pass.add(claimed)
        burst.hasMore = claimed.hasMore
        burst.hasStarted = burst.hasStarted || burst.pass.startedCount > 0
        moveCursor(to: claimed.cursor)
        if claimed.runs.isEmpty, claimed.isContended {
            // The other node holds the lanes for some milliseconds, and may take nothing.
            state = .retrying
            return .pause(Self.contentionDelay)
        }
        guard cursor.lane == 0 else { return claimMore(random) }
        burst.foundNothing = !burst.pass.foundLanes
        guard burst.foundNothing else { return endPass(random) }
        state = .noting
        return .noteEmptyBacklog
    }

    /// A whole pass that starts nothing is the last, however many lanes wait for room. The first one may have begun in the
    /// middle.
    private mutating func endPass(_ random: () -> Double) -> Action {
        if burst.pass.startedCount == 0, burst.passesDone > 0 { return endBurst(random) }
        burst.pass = Pass()
        burst.passesDone += 1
        return claimMore(random)
    }

    private mutating func claimMore(_ random: () -> Double) -> Action {
        burst.hasMore ? claim(hasOlder: false) : endBurst(random)
    }

    private mutating func endBurst(_ random: () -> Double) -> Action {
        guard burst.foundNothing, !burst.hasStarted, !burst.wasIdle else {
            pauses.reset()
            state = .waiting
            return .wait
        }
        state = .pausing
        return .pause(pauses.next(random: random()))
    }

    /// A bug of the driver: in a release build the claimer waits for the next wake.
    private mutating func unexpected() -> Action {
        assertionFailure("an event that is not the answer to the last action, in \(state)")
        state = .waiting
        return .wait
    }
}
