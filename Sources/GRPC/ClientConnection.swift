internal import HTTP2
internal import Logging
internal import NIOCore
internal import NIOSSL
internal import NIOTLS

/// The client's end of a connection, between the channel's bytes and the calls.
final class ClientConnection: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let configuration: ClientConfiguration
    let session: Session
    let eventLoop: any EventLoop

    private let authority: String
    private let isEncrypted: Bool
    private let logger: Logger
    /// The server's SETTINGS were received.
    private var isReady = false
    private var readyWaiter: EventLoopPromise<Void>?
    private var context: ChannelHandlerContext?
    private var tick: RepeatedTask?
    private var isReading = false
    private var isFlushScheduled = false
    private var hasHeard = true
    private var hasPinged = false
    private(set) var closeReason: Status?

    private static let keepalivePing: UInt64 = 0x6b65_6570_616c_6976

    init(
        configuration: ClientConfiguration, authority: String, isEncrypted: Bool, eventLoop: any EventLoop,
        logger: Logger
    ) {
        self.configuration = configuration
        self.authority = authority
        self.isEncrypted = isEncrypted
        self.eventLoop = eventLoop
        self.logger = logger
        var limits = SessionConfiguration()
        limits.streamWindowBytes = Int32(clamping: max(configuration.streamWindowBytes, 65_535))
        limits.connectionWindowBytes = Int32(clamping: max(configuration.connectionWindowBytes, 65_535))
        limits.headerListBytesMax = min(configuration.headerListBytesMax, 65_535)
        session = Session(role: .client, configuration: limits)
    }

    /// Succeeds with the server's SETTINGS; fails with a `Status` when the connection ends before. To be called once.
    func whenReady() -> EventLoopFuture<Void> {
        if isReady { return eventLoop.makeSucceededVoidFuture() }
        guard context != nil else {
            return eventLoop.makeFailedFuture(closeReason ?? Status(.unavailable, "the connection was lost"))
        }
        let waiter = eventLoop.makePromise(of: Void.self)
        readyWaiter = waiter
        return waiter.futureResult
    }

    func open(_ path: String, metadata: Metadata, timeout: Duration?) throws -> ClientStream {
        if let closeReason { throw closeReason }
        var fields = HeaderFields([
            ":method": "POST",
            ":scheme": isEncrypted ? "https" : "http",
            ":path": path,
            ":authority": authority,
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": "grpc-swift-signalbox",
        ])
        if let timeout { fields.append("grpc-timeout", Timeout.encode(timeout)) }
        metadata.append(to: &fields)
        let stream: HTTP2.Stream
        do {
            stream = try session.request(fields)
        } catch {
            throw Status(.unavailable, "cannot start a call on this connection: \(error.message)")
        }
        let call = ClientStream(stream: stream, connection: self, timeout: timeout)
        stream.owner = call
        needsFlush()
        return call
    }

    // MARK: The channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if context.channel.isActive { begin() }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        end()
    }

    func channelActive(context: ChannelHandlerContext) {
        begin()
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    private func begin() {
        guard tick == nil else { return }
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        let interval = configuration.keepaliveInterval.timeAmount
        tick = eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { _ in
            bound.value.ticked()
        }
        eventLoop.scheduleTask(in: configuration.connectTimeout.timeAmount) {
            let connection = bound.value
            if !connection.isReady {
                connection.fail(Status(.unavailable, "the server did not answer in time"))
            }
        }
        flushNow()
    }

    private func end() {
        context = nil
        tick?.cancel()
        let reason = closeReason ?? Status(.unavailable, "the connection was lost")
        closeReason = reason
        readyWaiter?.fail(reason)
        readyWaiter = nil
        for stream in session.streams {
            call(of: stream)?.fail(reason)
            stream.owner = nil
        }
    }

    private func fail(_ status: Status) {
        logger.debug("connection failed", metadata: ["status": "\(status)"])
        if closeReason == nil { closeReason = status }
        context?.close(promise: nil)
    }

    /// Sends GOAWAY and closes.
    func close() {
        guard let context else { return }
        if closeReason == nil { closeReason = Status(.unavailable, "the client is closed") }
        session.terminate(.noError)
        flushNow()
        context.close(promise: nil)
    }

    private func ticked() {
        let isSilent = !hasHeard
        hasHeard = false
        guard session.openStreams > 0, isSilent else {
            hasPinged = false
            return
        }
        if hasPinged { return fail(Status(.unavailable, "the server did not answer a keepalive ping")) }
        hasPinged = true
        session.ping(Self.keepalivePing)
        flushNow()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        isReading = true
        hasHeard = true
        do {
            try session.receive(unwrapInboundIn(data))
            session.forEachEvent(handle)
        } catch {
            session.forEachEvent(handle)
            flushNow()
            fail(Status(.unavailable, "HTTP/2: \(error.message)"))
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        isReading = false
        flushNow()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { flushNow() }
        context.fireChannelWritabilityChanged()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // exact: the TLS library gives one of those that were offered
        if case .handshakeCompleted(let negotiated)? = event as? TLSUserEvent, negotiated != "h2" {
            fail(Status(.unavailable, "the server does not speak HTTP/2 (ALPN)"))
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(Status(.unavailable, Self.reason(for: error)))
    }

    /// The TLS library's description of a failed handshake names locations in its source.
    private static func reason(for error: any Error) -> String {
        guard case .handshakeFailed(let cause)? = error as? NIOSSLError else { return "\(error)" }
        // exact: text of the TLS library
        return "\(cause)".contains("CERTIFICATE_VERIFY_FAILED")
            ? "TLS: the server's certificate is not signed by a trusted authority"
            : "TLS: no protocol version or cipher in common with the server"
    }

    // MARK: Sending

    /// There is something to send. It is flushed at the end of this burst of reads, or of this tick of the loop.
    func needsFlush() {
        guard !isReading, !isFlushScheduled else { return }
        isFlushScheduled = true
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        eventLoop.execute { bound.value.flushNow() }
    }

    private func flushNow() {
        isFlushScheduled = false
        guard let context else { return }
        do {
            var more = true
            while more, context.channel.isWritable {
                var buffer = context.channel.allocator.buffer(capacity: 1_024)
                more = try session.send(into: &buffer, limit: 64 * 1024)
                if buffer.readableBytes == 0 { break }
                context.writeAndFlush(wrapOutboundOut(buffer), promise: nil)
            }
        } catch {
            return fail(Status(.unavailable, "HTTP/2: \(error.message)"))
        }
        session.forEachEvent(handle)
        if session.isFinished { context.close(promise: nil) }
    }

    // MARK: Events

    private func call(of stream: HTTP2.Stream) -> ClientStream? {
        stream.owner as? ClientStream
    }

    private func handle(_ event: Event) {
        switch event {
        case .headers(let stream, let block, let endStream):
            call(of: stream)?.receive(block, endStream: endStream)
        case .data(let stream, let bytes):
            call(of: stream)?.receive(bytes)
        case .endStream(let stream):
            call(of: stream)?.receiveEnd()
        case .closed(let stream, let code):
            call(of: stream)?.closed(code)
            stream.owner = nil
        case .drained(let stream):
            call(of: stream)?.drained()
        case .settings:
            isReady = true
            readyWaiter?.succeed()
            readyWaiter = nil
        case .goAway(_, let code):
            // Open calls continue; the library refuses new ones.
            if closeReason == nil { closeReason = Status(.unavailable, "the server is going away: \(code)") }
        case .settingsAcknowledged, .ping, .pingAcknowledged:
            break
        }
    }
}
