internal import NIOCore

/// When a connection is asked for a sign of life, when it is asked to go, and when it is given up. It is told the time
/// at each tick and decides; a decision comes at most one tick late, that of a slow handshake at once.
struct ConnectionTimers {
    enum Action: Equatable {
        case none
        case sendPing
        /// Silent for too long, or its handshake too slow, or asked to go away and still here.
        case close
        /// No calls for too long, its age, or its certificate. Said once; a client that goes closes the connection by its
        /// answer.
        case goAway
        /// It was asked to go, and its calls have not ended within the time that was left them.
        case abort(Reason)
    }

    enum Reason: Equatable {
        case age
        case trust
    }

    let tickInterval: TimeAmount
    /// After so many ticks in a row without progress a reader is given up.
    let stallTicks: Int
    private static let stallTicksMin = 4
    private let configuration: ServerConfiguration
    /// When the connection is asked to go whatever it does; nil: never.
    private let ageMax: TimeAmount?
    private let startedAt: NIODeadline
    private(set) var isEstablished = false
    private var heardAt: NIODeadline
    private var usedAt: NIODeadline
    private var pingedAt: NIODeadline?
    private var goAwaySaidAt: NIODeadline?
    private var agedAt: NIODeadline?
    private var wasTrusted = true

    /// A credential that has ended, or was revoked, ends its calls within five seconds: this, and the time in which the
    /// owner of the credentials notices. A connection whose certificate is trusted no longer ends after twice this.
    private static let admissionCheckInterval = TimeAmount.seconds(2)

    /// - Parameter ageFactor: what the greatest age is multiplied with, so that connections that were opened together do
    ///   not go together.
    init(configuration: ServerConfiguration, now: NIODeadline, ageFactor: Double = 1) {
        self.configuration = configuration
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
        if let grace = configuration.connectionAgeGrace {
            interval = min(interval, .nanoseconds(grace.timeAmount.nanoseconds / 4))
        }
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

    /// How long from now to the next tick. A slow handshake ends when its time does, not at the tick after.
    func untilNextTick(now: NIODeadline) -> TimeAmount {
        guard !isEstablished else { return tickInterval }
        let left = startedAt + configuration.handshakeTimeout.timeAmount - now
        return max(.nanoseconds(1), min(tickInterval, left))
    }

    /// - Parameters:
    ///   - heard: bytes came since the last tick.
    ///   - used: a call is open, or was let in since the last tick.
    ///   - admitted: a call was ever let in for what its caller is.
    ///   - trusted: the client would still be let in with its certificate.
    mutating func tick(
        now: NIODeadline, heard: Bool, used: Bool, admitted: Bool = true, trusted: Bool = true
    ) -> Action {
        guard isEstablished else {
            let isLate = now - startedAt >= configuration.handshakeTimeout.timeAmount
            return isLate || !trusted ? .close : .none
        }
        guard trusted else {
            // Calls that are soon over end well; a watch begins again elsewhere.
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
            if let grace = configuration.connectionAgeGrace, now - agedAt >= grace.timeAmount {
                return .abort(.age)
            }
        }
        let idleTimeout =
            admitted
            ? configuration.idleTimeout : min(configuration.idleTimeout, configuration.unadmittedIdleTimeout)
        if now - usedAt >= idleTimeout.timeAmount {
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
}
