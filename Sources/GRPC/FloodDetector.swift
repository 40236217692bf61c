internal import NIOCore

/// Detects clients that make the server work without making calls: frames without content, streams that the server has to
/// reset, and PINGs. There is a token bucket for each; a client that exceeds one is cut off.
struct FloodDetector {
    /// Why a client is cut off. The raw value is the debug data of the GOAWAY.
    enum Excess: String, Sendable {
        /// gRPC's clients know this value and then send fewer PINGs.
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
    // The session's counters at the last check.
    private var framesSeen = 0
    private var faultsSeen = 0
    private var invalidFramesSeen = 0
    private var answersSeen = 0
    /// The frames that answers have earned and that have not come yet. They are kept beside the burst, because a client that
    /// was busy or frozen acknowledges at once what it was sent meanwhile.
    private var earnedFrames = 0
    private var answersSeenByPing = 0
    /// Streams that the server refused through no fault of the client's.
    private var resetsForgiven = 0
    /// Faults for which no stream was reset.
    private var faultsWithoutReset = 0

    /// Early PINGs that are tolerated before the one that ends the connection (as in gRPC servers of other languages).
    private static let pingStrikesMax = 2
    /// A client answers each frame that it is sent with WINDOW_UPDATEs for the stream and the connection.
    private static let framesEarnedByAnswer = 4
    /// 1,000 watches may each send several events in the seconds in which their client is busy.
    private static let earnedFramesMax = 40_000
    /// A SETTINGS counts as one more frame for each so many streams that it is applied to.
    private static let streamsPerFrame = 32

    init(configuration: ServerConfiguration, now: NIODeadline) {
        // A tenth less, because the network may move PINGs closer together.
        pingIntervalMin = (configuration.pingIntervalMin * 9 / 10).timeAmount
        frames = TokenBucket(
            burst: configuration.overheadFramesBurst, perSecond: configuration.overheadFramesPerSecond,
            now: now)
        faults = TokenBucket(
            burst: configuration.faultsBurst, perSecond: configuration.faultsPerSecond, now: now)
        invalid = faults
    }

    /// - Parameters:
    ///   - overheadFrames: frames without content received since the beginning.
    ///   - streamsResettled: how often a SETTINGS was applied to a stream since the beginning.
    ///   - answers: HEADERS and DATA frames sent since the beginning.
    mutating func received(
        overheadFrames: Int, streamsResettled: Int, answers: Int, now: @autoclosure () -> NIODeadline
    ) -> Excess? {
        let received = overheadFrames + streamsResettled / Self.streamsPerFrame
        let count = received - framesSeen
        guard count > 0 else { return nil }
        framesSeen = received
        earnedFrames = min(
            earnedFrames + (answers - answersSeen) * Self.framesEarnedByAnswer, Self.earnedFramesMax)
        answersSeen = answers
        let unearned = max(0, count - earnedFrames)
        earnedFrames -= count - unearned
        return unearned == 0 || frames.take(unearned, now: now()) ? nil : .frames
    }

    /// Invalid frames have a bucket of their own, since the server answers most of them with a reset, which is counted too.
    ///
    /// - Parameter invalidFrames: received since the beginning.
    mutating func received(invalidFrames: Int, now: @autoclosure () -> NIODeadline) -> Excess? {
        let count = invalidFrames - invalidFramesSeen
        guard count > 0 else { return nil }
        invalidFramesSeen = invalidFrames
        return invalid.take(count, now: now()) ? nil : .faults
    }

    /// - Parameter resets: sent for faults of the client's since the beginning.
    mutating func sent(resets: Int, now: @autoclosure () -> NIODeadline) -> Excess? {
        let sum = resets - resetsForgiven + faultsWithoutReset
        let count = sum - faultsSeen
        guard count > 0 else { return nil }
        faultsSeen = sum
        return faults.take(count, now: now()) ? nil : .faults
    }

    /// The next reset is not the client's fault: the server refused a stream that the client could not know to be one too
    /// many.
    mutating func forgiveReset() {
        resetsForgiven += 1
    }

    /// The client broke a rule, and its request was answered rather than reset.
    mutating func faultAnswered() {
        faultsWithoutReset += 1
    }

    /// A PING is early when it follows another one too soon and nothing was sent in between. Clients that measure the
    /// bandwidth, as Go's do, send one for what they receive; those are never early.
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

/// A rate limit: a burst of tokens that refills at a constant rate.
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

    /// - Returns: false if there were fewer; all of them are gone then.
    mutating func take(_ count: Int, now: NIODeadline) -> Bool {
        let seconds = Double(max(0, (now - filledAt).nanoseconds)) / 1e9
        filledAt = now
        tokens = min(burst, tokens + seconds * perSecond) - Double(count)
        guard tokens < 0 else { return true }
        tokens = 0
        return false
    }
}
