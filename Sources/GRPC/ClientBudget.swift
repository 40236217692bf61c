internal import NIOCore

/// What a client may have the server do for nothing: frames that say nothing, streams that the server has to reset,
/// PINGs. It is told of all of them and decides; a client over its budget is cut off.
struct ClientBudget {
    /// Why a client is cut off, in the words of the GOAWAY.
    enum Excess: String, Sendable {
        /// The word that gRPC's clients know, and then ping less often.
        case pings = "too_many_pings"
        case frames = "too_many_control_frames"
        case faults = "too_many_faults"
    }

    private let pingIntervalMin: TimeAmount
    private var frames: TokenBucket
    private var faults: TokenBucket
    private var invalid: TokenBucket
    private var pingedAt: NIODeadline?
    private var pingStrikes = 0
    /// What the session had counted when it was last looked at.
    private var framesSeen = 0
    private var faultsSeen = 0
    private var invalidFramesSeen = 0
    private var answersSeen = 0
    private var answersSeenByPing = 0

    /// PINGs that come too early before the one that is too many (as the gRPC servers of other languages have it).
    private static let pingStrikesMax = 2
    /// A client answers what it is sent by WINDOW_UPDATEs, at most one each for the stream and the connection.
    private static let framesEarnedByAnswer = 4
    /// A SETTINGS counts as one frame more for each so many streams that it is applied to.
    private static let streamsPerFrame = 32

    init(configuration: ServerConfiguration, now: NIODeadline) {
        // A tenth less: on their way PINGs come closer together.
        pingIntervalMin = (configuration.pingIntervalMin * 9 / 10).timeAmount
        frames = TokenBucket(
            burst: configuration.overheadFramesBurst, perSecond: configuration.overheadFramesPerSecond,
            now: now)
        faults = TokenBucket(
            burst: configuration.faultsBurst, perSecond: configuration.faultsPerSecond, now: now)
        invalid = faults
    }

    /// - Parameters:
    ///   - overheadFrames: received since the beginning: those that cost their sender nothing.
    ///   - streamsResettled: by SETTINGS since the beginning, each stream every time.
    ///   - answers: HEADERS and DATA frames sent since the beginning.
    mutating func received(
        overheadFrames: Int, streamsResettled: Int, answers: Int, now: @autoclosure () -> NIODeadline
    ) -> Excess? {
        let received = overheadFrames + streamsResettled / Self.streamsPerFrame
        let count = received - framesSeen
        guard count > 0 else { return nil }
        framesSeen = received
        frames.give((answers - answersSeen) * Self.framesEarnedByAnswer)
        answersSeen = answers
        return frames.take(count, now: now()) ? nil : .frames
    }

    /// They have a bucket of their own, since a reset comes for most of them, and is counted when it is sent.
    ///
    /// - Parameter invalidFrames: received since the beginning.
    mutating func received(invalidFrames: Int, now: @autoclosure () -> NIODeadline) -> Excess? {
        let count = invalidFrames - invalidFramesSeen
        guard count > 0 else { return nil }
        invalidFramesSeen = invalidFrames
        return invalid.take(count, now: now()) ? nil : .faults
    }

    /// - Parameter resets: for faults of the client's, sent since the beginning.
    mutating func sent(resets: Int, now: @autoclosure () -> NIODeadline) -> Excess? {
        let count = resets - faultsSeen
        guard count > 0 else { return nil }
        faultsSeen = resets
        return faults.take(count, now: now()) ? nil : .faults
    }

    /// A PING is early when it follows another one too soon and nothing was sent in between. Clients that measure the
    /// bandwidth (as Go's do) send one for what they receive: these are never early.
    mutating func receivedPing(answers: Int, now: NIODeadline) -> Excess? {
        defer { pingedAt = now }
        if answers != answersSeenByPing {
            answersSeenByPing = answers
            pingStrikes = 0
            return nil
        }
        guard let pingedAt, now - pingedAt < pingIntervalMin else { return nil }
        pingStrikes += 1
        return pingStrikes > Self.pingStrikesMax ? .pings : nil
    }
}

/// So many at once, and so many a second after that.
struct TokenBucket {
    private let burst: Double
    private let perSecond: Double
    private var tokens: Double
    private var filledAt: NIODeadline

    init(burst: Int, perSecond: Int, now: NIODeadline) {
        self.burst = Double(burst)
        self.perSecond = Double(perSecond)
        tokens = Double(burst)
        filledAt = now
    }

    /// Adds tokens that were earned otherwise than by time.
    mutating func give(_ count: Int) {
        tokens = min(burst, tokens + Double(count))
    }

    /// False: there are not so many; all are gone then.
    mutating func take(_ count: Int, now: NIODeadline) -> Bool {
        let seconds = Double(max(0, (now - filledAt).nanoseconds)) / 1e9
        filledAt = now
        tokens = min(burst, tokens + seconds * perSecond) - Double(count)
        guard tokens < 0 else { return true }
        tokens = 0
        return false
    }
}
