internal import HTTP2
internal import Logging
internal import NIOCore

/// What a connection does at each tick: asks for signs of life, and ends what stalls.
extension ServerConnection {
    func scheduleTick() {
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        tick = eventLoop.scheduleTask(in: machine.untilNextTick(now: .now())) {
            bound.value.ticked()
        }
    }

    func ticked() {
        guard machine.ticks else { return }
        guard !isBlocked() else {
            logger.debug("client reads nothing")
            tellRefusal(of: .readsNothing)
            closeAtOnce()
            return
        }
        checkCalls()
        let action = machine.tick(
            now: .now(), isBusy: session.openStreams > 0 || runningHandlers > 0, isTrusted: isTrusted())
        switch action {
        case .none: break
        case .sendPing:
            session.ping(ServerConnectionStateMachine.keepalivePing)
            flushNow()
        case .drain:
            announceShutdown()
        case .abort(.age):
            return abort("the connection has reached its greatest age")
        case .abort(.trust):
            return abort("the authorities of clients have changed: connect again")
        case .close(let handshakeTimedOut):
            logger.debug("connection timed out")
            if handshakeTimedOut { tellRefusal(of: .handshakeTimedOut) }
            context?.close(promise: nil)
            return
        }
        scheduleTick()
    }

    /// The socket has taken too little for too long.
    func isBlocked() -> Bool {
        guard let context, !context.channel.isWritable else { return false }
        let bytes = Self.acknowledgedBytes(context.channel)
        defer { acknowledgedBytesSeen = bytes }
        guard let seen = acknowledgedBytesSeen else {
            socketPace.rest()
            return false
        }
        let moved = bytes > seen ? Int(clamping: bytes - seen) : 0
        return socketPace.tick(moved: paced(moved, unreadShare, of: budgets.unreadAnswers))
            >= machine.stallTicks
    }

    /// How much the client's system has taken since the beginning; 0 where nobody counts it. What is left in the channel
    /// says less: the system asks for more only when a third of its own buffer is free, which may be megabytes, and
    /// minutes of a bad line.
    static func acknowledgedBytes(_ channel: any Channel) -> UInt64 {
        var bytes: UInt64 = 0
        // Answered at once, for this is the channel's loop.
        (channel as? any SocketOptionProvider)?
            .unsafeGetSocketOption(level: .tcp, name: .tcp_info).assumeIsolated()
            .whenSuccess { (info: SIMD16<UInt64>) in bytes = info[tcpBytesAcknowledged] }
        return bytes
    }

    /// Where Linux has `tcpi_bytes_acked` in `tcp_info`, in words of eight bytes.
    private static let tcpBytesAcknowledged = 15

    /// Ends the calls whose clients read too little, and those of callers who may call no longer.
    func checkCalls() {
        let sentBytes = session.bodyBytesSent - bodyBytesSeen
        bodyBytesSeen += sentBytes
        if session.queuedBytes > 0, session.isHeldByPeer {
            _ = windowPace.tick(moved: paced(sentBytes, unreadShare, of: budgets.unreadAnswers))
        } else {
            windowPace.rest()
        }
        let callersMayEnd = configuration.admission?.callersMayEnd == true
        guard session.queuedBytes > 0 || requestBytes > 0 || callersMayEnd else { return }
        let isFull = session.queuedBytes >= configuration.outboundBytesPerConnection
        var hasStalled = false
        for stream in session.streams {
            guard let call = call(of: stream) else { continue }
            if call.countStall() >= machine.stallTicks {
                session.reset(stream, .enhanceYourCalm)
                hasStalled = true
            } else if callersMayEnd, !call.isAdmitted {
                call.fail(Status(.unauthenticated, "the credential has ended"))
            }
        }
        // Calls that wait because of those would only stall in their turn.
        // Their answers are gone: what comes next has its own time.
        if hasStalled { windowPace.rest() }
        if hasStalled, isFull {
            refuseWaiting(Status(.resourceExhausted, "the answers to earlier calls are not read"))
        }
        flushNow()
    }

    /// As host:port.
    static func text(_ address: SocketAddress) -> String {
        guard let host = address.ipAddress, let port = address.port else { return address.pathname ?? "" }
        // exact: an address that the system gives
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
