internal import HTTP2
internal import Logging
internal import NIOCore

/// The connection's tick: keepalive and timeouts, and the detection of stalled streams and sockets.
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
            logger.debug("the client does not read")
            reportRefusal(of: .readsNothing)
            closeAtOnce()
            return
        }
        checkCalls()
        let action = machine.tick(
            now: .now(), isBusy: session.openStreams > 0 || resources.runningHandlers > 0,
            isTrusted: isTrusted())
        switch action {
        case .none: break
        case .sendPing:
            session.ping(ServerConnectionStateMachine.keepalivePing)
            flushNow()
        case .drain:
            announceShutdown()
        case .abort(.age):
            return abort(.connectionClosing, "the connection has reached its maximum age: connect again")
        case .abort(.trust):
            return abort(
                .connectionClosing, "the certificate authorities of clients have changed: connect again")
        case .close(let handshakeTimedOut):
            logger.debug("connection timed out")
            if handshakeTimedOut { reportRefusal(of: .handshakeTimedOut) }
            context?.close(promise: nil)
            return
        }
        scheduleTick()
    }

    /// The client's kernel has acknowledged too little for too long.
    func isBlocked() -> Bool {
        guard let context, !context.channel.isWritable else { return false }
        let ticks = resources.tickFullSocket(acknowledgedBytes: Self.acknowledgedBytes(context.channel))
        return ticks >= machine.stallTicks
    }

    /// The bytes that the client's kernel has acknowledged since the beginning; 0 where the system does not count them. The
    /// bytes that are left in the channel say less: the socket becomes writable only when a third of the kernel's buffer is
    /// free, which may be megabytes, and minutes on a bad line.
    static func acknowledgedBytes(_ channel: any Channel) -> UInt64 {
        var bytes: UInt64 = 0
        // The option is read at once because this is the channel's loop.
        (channel as? any SocketOptionProvider)?
            .unsafeGetSocketOption(level: .tcp, name: .tcp_info).assumeIsolated()
            .whenSuccess { (info: SIMD16<UInt64>) in bytes = info[tcpBytesAcknowledged] }
        return bytes
    }

    /// The offset of `tcpi_bytes_acked` in Linux's `tcp_info`, in words of eight bytes.
    private static let tcpBytesAcknowledged = 15

    /// Ends calls whose clients read or send too slowly, and those whose credentials are no longer valid.
    func checkCalls() {
        resources.tick(
            bodyBytesSent: session.bodyBytesSent,
            isHeldByPeer: session.queuedBytes > 0 && session.isHeldByPeer)
        let callersMayEnd = configuration.admission?.callersMayEnd == true
        guard session.queuedBytes > 0 || resources.requestBytes > 0 || callersMayEnd else { return }
        let isFull = session.queuedBytes >= configuration.outboundBytesPerConnection
        var hasStalled = false
        for stream in session.streams {
            guard let call = call(of: stream) else { continue }
            if call.countStall() >= machine.stallTicks {
                session.reset(stream, .enhanceYourCalm)
                hasStalled = true
            } else if callersMayEnd, !call.mayHaveTakenEffect, !call.isAdmitted {
                call.fail(
                    Status(
                        .unauthenticated, .credentialsExpired, "the credentials have expired or were revoked")
                )
            }
        }
        if hasStalled { resources.windowReleased() }
        // Calls that wait for a permit behind the stalled ones would only stall too.
        if hasStalled, isFull {
            refuseWaiting(
                Status(
                    .resourceExhausted, .responsesUnread,
                    "the client does not read the responses of earlier calls"))
        }
        flushNow()
    }

    /// The address as host:port.
    static func text(_ address: SocketAddress) -> String {
        guard let host = address.ipAddress, let port = address.port else { return address.pathname ?? "" }
        // exact: an address given by the system
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
