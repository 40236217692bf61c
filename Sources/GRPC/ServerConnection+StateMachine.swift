internal import NIOCore

/// The life of a server's connection, from the accepted socket to its end.
///
///     serving ── drain ──▶ draining ── PING acknowledged, or time limit ──▶ refusing
///        │                     │                                               │
///        ├─────────────────────┴── session finished or failed, abort ──────────┴──▶ closing
///        │                     │                                               │       │
///        └─────────────────────┴── flood detected ─────────────────────────────┴───────┴──▶ cutOff
///
///     any state ── channel closed ──▶ closed
///
/// Keepalive, idle timeout, age and handshake timeout are decided by `ConnectionTimers`, which this machine owns. It
/// decides; `ServerConnection` acts. It touches no socket and no clock.
struct ServerConnectionStateMachine {
    enum State: Equatable {
        /// New calls are accepted. The end of the session is no fault of the client's once it has sent GOAWAY.
        /// Exits: `drain` and `tick` → draining; `sessionFinished`, `sessionFailed`, `abort` → closing;
        /// `floodDetected` → cutOff; `channelClosed` → closed.
        case serving(goAwayReceived: Bool)
        /// The first GOAWAY asks the client to open no more streams; those that cross it on the wire are still served.
        /// Exits: `pingAcknowledged`, `drainTimedOut` → refusing; `sessionFinished`, `sessionFailed`, `abort` →
        /// closing; `floodDetected` → cutOff; `channelClosed` → closed.
        case draining
        /// The second GOAWAY names the last stream, and later ones are ignored. The session finishes with its last
        /// stream. Exits: `sessionFinished`, `sessionFailed`, `abort` → closing; `floodDetected` → cutOff;
        /// `channelClosed` → closed.
        case refusing
        /// The channel is closed as soon as what is queued is written. Exits: `floodDetected` → cutOff;
        /// `channelClosed` → closed.
        case closing
        /// A GOAWAY tells the client which limit it exceeded, and nothing that it sends is read. Before `isSent` the
        /// GOAWAY is being written. Exits: `abort` → closing; `channelClosed` → closed.
        case cutOff(isSent: Bool)
        /// The channel is closed. Handlers may still run; `isReported` is set once none does. No exit.
        case closed(isReported: Bool)
    }

    // The payloads that distinguish acknowledged PINGs.
    static let drainPing: UInt64 = 0x7369_676e_616c_626f
    static let keepalivePing: UInt64 = 0x6b65_6570_616c_6976
    /// The time that a client has to acknowledge the PING behind the first GOAWAY.
    static let drainTimeout = TimeAmount.seconds(5)
    /// The time that a client that was cut off has to read the reason.
    static let cutOffTimeout = TimeAmount.milliseconds(500)

    private(set) var state = State.serving(goAwayReceived: false)
    private var timers: ConnectionTimers
    /// Bytes were received since the last tick.
    private var hasReceived = false
    /// A call was accepted since the last tick.
    private(set) var hasAcceptedCall = false
    /// A call was admitted for what its caller is (`ConnectionLimiter`).
    private(set) var isAdmitted = false

    init(timers: ConnectionTimers) {
        self.timers = timers
    }

    var isClosed: Bool {
        if case .closed = state { true } else { false }
    }

    /// The session's events are handled, and calls are let begin. False as soon as the client is cut off or the channel
    /// is closed, which may happen while events are handled: a call that began then would never be ended.
    var acceptsCalls: Bool {
        switch state {
        case .serving, .draining, .refusing: true
        case .closing, .cutOff, .closed: false
        }
    }

    /// Ticks are scheduled, and check keepalive, timeouts and stalls.
    var ticks: Bool { acceptsCalls }

    /// Bytes from the client are given to the session.
    var readsInput: Bool {
        switch state {
        case .serving, .draining, .refusing, .closing: true
        case .cutOff, .closed: false
        }
    }

    var tickInterval: TimeAmount { timers.tickInterval }
    var stallTicks: Int { timers.stallTicks }

    func untilNextTick(now: NIODeadline) -> TimeAmount {
        timers.untilNextTick(now: now)
    }

    // MARK: From the client

    /// Returns false when the bytes are to be dropped.
    mutating func bytesReceived() -> Bool {
        hasReceived = true
        return readsInput
    }

    /// The client's first SETTINGS complete the handshake.
    mutating func settingsReceived() {
        timers.established()
    }

    mutating func goAwayReceived() {
        if case .serving = state { state = .serving(goAwayReceived: true) }
    }

    /// - Returns: whether to send the second GOAWAY.
    mutating func pingAcknowledged(_ payload: UInt64) -> Bool {
        payload == Self.drainPing && refuseNewStreams()
    }

    /// - Parameter isAnonymous: the caller has shown no credentials although other methods require them.
    /// - Returns: whether this call makes the connection an admitted one.
    mutating func callAccepted(isAnonymous: Bool) -> Bool {
        hasAcceptedCall = true
        guard !isAdmitted, !isAnonymous else { return false }
        isAdmitted = true
        return true
    }

    // MARK: From the server

    /// - Returns: whether to send the first GOAWAY and the PING behind it.
    mutating func drain() -> Bool {
        guard case .serving = state else { return false }
        state = .draining
        return true
    }

    /// A client that is gone, or ignores PINGs, acknowledges nothing.
    ///
    /// - Returns: whether to send the second GOAWAY.
    mutating func drainTimedOut() -> Bool {
        refuseNewStreams()
    }

    private mutating func refuseNewStreams() -> Bool {
        guard state == .draining else { return false }
        state = .refusing
        return true
    }

    /// The connection ends now, with all its calls.
    ///
    /// - Returns: whether there is anything to end.
    mutating func abort() -> Bool {
        guard !isClosed else { return false }
        state = .closing
        return true
    }

    /// - Returns: whether to send GOAWAY with the reason and then to call `cutOffSent`.
    mutating func floodDetected() -> Bool {
        guard readsInput else { return false }
        state = .cutOff(isSent: false)
        return true
    }

    /// The GOAWAY with the reason was handed to the channel.
    ///
    /// - Returns: whether the channel is still to be closed, after `cutOffTimeout`.
    mutating func cutOffSent() -> Bool {
        guard state == .cutOff(isSent: false) else { return false }
        state = .cutOff(isSent: true)
        return true
    }

    enum FinishAction: Equatable {
        case none
        /// Close the channel once everything is written. `isFault`: it was the HTTP/2 library that ended the session,
        /// because the client broke the protocol.
        case closeAfterFlush(isFault: Bool)
    }

    /// The session has nothing more to send or to receive.
    mutating func sessionFinished() -> FinishAction {
        switch state {
        case .serving(let goAwayReceived):
            state = .closing
            return .closeAfterFlush(isFault: !goAwayReceived)
        case .draining, .refusing:
            state = .closing
            return .closeAfterFlush(isFault: false)
        case .cutOff(isSent: false):
            // No stream is open: the channel need not be kept for a client that might still read its answers.
            return .closeAfterFlush(isFault: false)
        case .closing, .cutOff(isSent: true), .closed:
            return .none
        }
    }

    /// The session could not go on: the client broke the protocol.
    ///
    /// - Returns: whether this is the first that is heard of the connection's end.
    mutating func sessionFailed() -> Bool {
        guard acceptsCalls else { return false }
        state = .closing
        return true
    }

    /// - Returns: false if it was closed already.
    mutating func channelClosed() -> Bool {
        guard !isClosed else { return false }
        state = .closed(isReported: false)
        return true
    }

    /// To be called when the channel is closed and whenever a handler has returned.
    ///
    /// - Returns: whether to report that the connection is done: true once.
    mutating func reportsEnd(runningHandlers: Int) -> Bool {
        guard state == .closed(isReported: false), runningHandlers == 0 else { return false }
        state = .closed(isReported: true)
        return true
    }

    // MARK: Time

    enum TickAction: Equatable {
        case none
        /// Send a keepalive PING.
        case sendPing
        /// Send the first GOAWAY and the PING behind it.
        case drain
        case abort(ConnectionTimers.Reason)
        /// `handshakeTimedOut`: the client's SETTINGS have not come in time.
        case close(handshakeTimedOut: Bool)
    }

    /// - Parameters:
    ///   - isBusy: a call is open or a handler runs.
    ///   - isTrusted: the client's certificate would still be accepted.
    mutating func tick(now: NIODeadline, isBusy: Bool, isTrusted: Bool) -> TickAction {
        guard ticks else { return .none }
        let action = timers.tick(
            now: now, heard: hasReceived, used: hasAcceptedCall || isBusy, admitted: isAdmitted,
            trusted: isTrusted)
        hasReceived = false
        hasAcceptedCall = false
        switch action {
        case .none: return .none
        case .sendPing: return .sendPing
        case .goAway: return drain() ? .drain : .none
        case .abort(let reason): return .abort(reason)
        case .close: return .close(handshakeTimedOut: !timers.isEstablished && isTrusted)
        }
    }
}
