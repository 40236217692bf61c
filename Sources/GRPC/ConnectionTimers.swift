internal import NIOCore

/// Decides when a connection is sent a keepalive PING, when it is drained, and when it is closed: keepalive, idle timeout,
/// greatest age, handshake timeout and trust in the client's certificate. The time comes in with each tick; a decision is
/// at most one tick late, and that of a slow handshake is on time.
struct ConnectionTimers {
    enum Action: Equatable {
        case none
        case sendPing
        /// The keepalive or the handshake timed out, or the client has ignored GOAWAY.
        case close
        /// The idle timeout or the greatest age was reached, or the certificate is trusted no longer. Given once; a client
        /// that complies closes the connection.
        case goAway
        /// The connection was drained, and its calls have not ended within their grace time.
        case abort(Reason)
    }

    enum Reason: Equatable {
        case age
        case trust
    }

    let tickInterval: TimeAmount
    /// After so many ticks in a row without progress a stream or a connection is ended (`StallDetector`).
    let stallTicks: Int
    private static let stallTicksMin = 4
    private let handshakeTimeout: TimeAmount
    private let idleTimeout: TimeAmount
    private let unadmittedIdleTimeout: TimeAmount
    private let keepaliveInterval: TimeAmount
    private let keepaliveTimeout: TimeAmount
    /// The age at which the connection is drained; nil: never.
    private let ageMax: TimeAmount?
    private let ageGrace: TimeAmount?
    private let startedAt: NIODeadline
    private(set) var isEstablished = false
    private var heardAt: NIODeadline
    private var usedAt: NIODeadline
    private var pingedAt: NIODeadline?
    private var drainedAt: NIODeadline?
    private var agedAt: NIODeadline?
    private var wasTrusted = true

    /// A credential that has expired or was revoked ends its calls within five seconds: this interval, and the time in
    /// which the owner of the credentials notices. A connection whose certificate is trusted no longer ends after two
    /// intervals.
    private static let admissionCheckInterval = TimeAmount.seconds(2)

    /// - Parameter ageFactor: the greatest age is multiplied by this jitter, so that connections that were opened together
    ///   are not closed together.
    init(configuration: ServerConfiguration, now: NIODeadline, ageFactor: Double = 1) {
        handshakeTimeout = configuration.handshakeTimeout.timeAmount
        idleTimeout = configuration.idleTimeout.timeAmount
        unadmittedIdleTimeout = min(idleTimeout, configuration.unadmittedIdleTimeout.timeAmount)
        keepaliveInterval = configuration.keepaliveInterval.timeAmount
        keepaliveTimeout = configuration.keepaliveTimeout.timeAmount
        ageGrace = configuration.connectionAgeGrace?.timeAmount
        self.startedAt = now
        self.heardAt = now
        self.usedAt = now
        self.ageMax = configuration.connectionAgeMax.map {
            .nanoseconds(Int64(Double($0.timeAmount.nanoseconds) * ageFactor))
        }
        let times = [
            configuration.handshakeTimeout / 2, configuration.idleTimeout / 2,
            configuration.unadmittedIdleTimeout / 2, configuration.keepaliveInterval / 2,
            configuration.keepaliveTimeout / 2, configuration.stallTimeout / Self.stallTicksMin,
        ]
        var interval = times.map(\.timeAmount).min() ?? .seconds(1)
        if let ageMax { interval = min(interval, .nanoseconds(ageMax.nanoseconds / 4)) }
        if let ageGrace { interval = min(interval, .nanoseconds(ageGrace.nanoseconds / 4)) }
        if configuration.admission?.callersMayEnd == true || configuration.tls?.clientCAPath != nil {
            interval = min(interval, Self.admissionCheckInterval)
        }
        self.tickInterval = max(.milliseconds(10), interval)
        self.stallTicks = max(
            Self.stallTicksMin,
            Int(configuration.stallTimeout.timeAmount.nanoseconds / tickInterval.nanoseconds))
    }

    mutating func established() {
        isEstablished = true
    }

    /// The time from now to the next tick. The handshake timeout is exact.
    func untilNextTick(now: NIODeadline) -> TimeAmount {
        guard !isEstablished else { return tickInterval }
        let left = startedAt + handshakeTimeout - now
        return max(.nanoseconds(1), min(tickInterval, left))
    }

    /// - Parameters:
    ///   - heard: bytes were received since the last tick.
    ///   - used: a call is open, or was accepted since the last tick.
    ///   - admitted: a call on the connection was admitted for what its caller is.
    ///   - trusted: the client's certificate would still be accepted.
    mutating func tick(
        now: NIODeadline, heard: Bool, used: Bool, admitted: Bool = true, trusted: Bool = true
    ) -> Action {
        guard isEstablished else {
            let isLate = now - startedAt >= handshakeTimeout
            return isLate || !trusted ? .close : .none
        }
        guard trusted else {
            // Short calls still end normally; a watch is resumed on another connection.
            defer { wasTrusted = false }
            return wasTrusted ? .goAway : .abort(.trust)
        }
        if used { usedAt = now }
        if heard {
            heardAt = now
            pingedAt = nil
        }
        if let ageMax, now - startedAt >= ageMax {
            guard let agedAt else {
                agedAt = now
                return .goAway
            }
            if let ageGrace, now - agedAt >= ageGrace {
                return .abort(.age)
            }
        }
        if now - usedAt >= (admitted ? idleTimeout : unadmittedIdleTimeout) {
            if let drainedAt {
                return now - drainedAt >= keepaliveTimeout ? .close : .none
            }
            drainedAt = now
            return .goAway
        }
        drainedAt = nil
        if let pingedAt {
            return now - pingedAt >= keepaliveTimeout ? .close : .none
        }
        if now - heardAt >= keepaliveInterval {
            pingedAt = now
            return .sendPing
        }
        return .none
    }
}
