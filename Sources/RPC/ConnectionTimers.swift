internal import NIOCore

/// When a connection is asked for a sign of life, and when it is given up. It is told the time at each tick and
/// decides; a decision comes at most one tick late.
struct ConnectionTimers {
    enum Action: Equatable {
        case none
        case sendPing
        /// Silent for too long, or its handshake too slow, or asked to go away and still here.
        case close
        /// No calls for too long. Said once; a client that goes closes the connection by its answer.
        case goAway
    }

    let tickInterval: TimeAmount
    private let configuration: ServerConfiguration
    private let startedAt: NIODeadline
    private var isEstablished = false
    private var heardAt: NIODeadline
    private var usedAt: NIODeadline
    private var pingedAt: NIODeadline?
    private var goAwaySaidAt: NIODeadline?

    private var pingMinuteStart: NIODeadline
    private var pingsInMinute = 0

    init(configuration: ServerConfiguration, now: NIODeadline) {
        self.configuration = configuration
        self.startedAt = now
        self.heardAt = now
        self.usedAt = now
        self.pingMinuteStart = now
        let shortest = min(
            configuration.handshakeTimeout, configuration.idleTimeout, configuration.keepaliveInterval,
            configuration.keepaliveTimeout)
        self.tickInterval = max(.milliseconds(10), .nanoseconds(shortest.timeAmount.nanoseconds / 2))
    }

    mutating func established() {
        isEstablished = true
    }

    /// - Parameters:
    ///   - heard: bytes came since the last tick.
    ///   - used: a call is open, or was begun since the last tick.
    mutating func tick(now: NIODeadline, heard: Bool, used: Bool) -> Action {
        guard isEstablished else {
            return now - startedAt >= configuration.handshakeTimeout.timeAmount ? .close : .none
        }
        if used { usedAt = now }
        if heard {
            heardAt = now
            pingedAt = nil
        }
        if now - usedAt >= configuration.idleTimeout.timeAmount {
            if let goAwaySaidAt {
                return now - goAwaySaidAt >= configuration.keepaliveTimeout.timeAmount ? .close : .none
            }
            goAwaySaidAt = now
            return .goAway
        }
        goAwaySaidAt = nil
        if let pingedAt {
            return now - pingedAt >= configuration.keepaliveTimeout.timeAmount ? .close : .none
        }
        if now - heardAt >= configuration.keepaliveInterval.timeAmount {
            pingedAt = now
            return .sendPing
        }
        return .none
    }

    /// The client sent a PING. False: it sends too many.
    mutating func receivedPing(now: NIODeadline) -> Bool {
        if now - pingMinuteStart >= .seconds(60) {
            pingMinuteStart = now
            pingsInMinute = 0
        }
        pingsInMinute += 1
        return pingsInMinute <= configuration.pingsPerMinuteMax
    }
}
