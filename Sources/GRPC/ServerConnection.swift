internal import HTTP2
internal import Logging
internal import NIOCore
internal import NIOSSL
internal import NIOTLS

/// One client's connection: between the channel's bytes and the calls. It is the only channel handler besides TLS.
///
/// Responses made within one burst of reads are sent with one flush at its end.
final class ServerConnection: ChannelDuplexHandler, LoopExecutor.Flushable {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let configuration: ServerConfiguration
    let session: Session
    let executor: LoopExecutor
    /// Nil: it is the only connection.
    let registration: ConnectionRegistry.Registration?
    /// Whether the client's certificate would still be accepted.
    let isTrusted: () -> Bool
    let okHeaders: PreparedHeaders
    let okTrailers: PreparedHeaders
    let router: Router
    let logger: Logger
    /// Called once, when the channel is closed and no handler runs.
    let whenDone: () -> Void
    var eventLoop: any EventLoop { executor.eventLoop }

    var context: ChannelHandlerContext?
    var peer: Peer
    var machine: ServerConnectionStateMachine
    var resources: ConnectionResources
    var flood: FloodDetector
    /// The records of open calls by their streams; empty when there are no interceptors.
    var records: [Int32: CallRecord] = [:]

    var tick: Scheduled<Void>?
    /// Closes the channel of a client that does not read what is still to be written.
    var close: Scheduled<Void>?
    /// The time limit of a graceful drain.
    var drainTimeout: Scheduled<Void>?

    /// The last request's headers, and its caller if admitted: the next request often has the same.
    var lastHead: RequestHead?
    var lastAdmitted: (any Admitted)?
    /// The call for which DATA was received last. Until other bytes are read it may share memory with them.
    var lastReceiving: ServerCall?
    /// Calls that wait for a permit. Those that are unary wait with the message that their handler starts with.
    var waitingForPermit = CircularBuffer<(call: ServerCall, message: ByteBuffer?)>()
    var isStartingWaiting = false
    /// Calls of unary methods without credentials that were accepted since bytes were last read. Those that are not
    /// answered when the burst of reads is over count as open.
    var newAnonymousCalls: [ServerCall] = []
    /// One of the connection's open calls is exempt from the limits on calls without credentials (`ServerCall.Anonymity`).
    var hasExemptCall = false

    var isReading = false
    var isFlushScheduled = false
    /// A read is withheld until the client reads its responses.
    var isReadHeld = false
    /// The size of the last flush, from which the size of the next buffer is guessed.
    var lastFlushBytes = 0

    static let writeBytes = 64 * 1024
    static let readBytes = 16 * 1024
    static let manyStreams = 128
    static let responseFields = HeaderFields([":status": "200", "content-type": "application/grpc"])

    init(
        configuration: ServerConfiguration, router: Router, executor: LoopExecutor,
        budgets: MemoryBudgets, registration: ConnectionRegistry.Registration? = nil,
        isTrusted: @escaping () -> Bool = { true }, logger: Logger, whenDone: @escaping () -> Void
    ) {
        self.registration = registration
        peer = Peer(address: "", source: registration?.source?.description ?? "", certificate: nil)
        self.isTrusted = isTrusted
        self.configuration = configuration
        self.router = router
        self.executor = executor
        self.logger = logger
        self.whenDone = whenDone
        machine = ServerConnectionStateMachine(
            timers: ConnectionTimers(
                configuration: configuration, now: .now(), ageFactor: .random(in: 0.9...1.1)))
        resources = ConnectionResources(configuration: configuration, budgets: budgets)
        flood = FloodDetector(configuration: configuration, now: .now())
        var limits = SessionConfiguration()
        limits.concurrentStreamsMax = UInt32(clamping: min(configuration.streamsPerConnectionMax, 1 << 30))
        limits.streamWindowBytes = Int32(clamping: max(configuration.streamWindowBytes, 65_535))
        limits.connectionWindowBytes = Int32(clamping: max(configuration.connectionWindowBytes, 65_535))
        limits.headerListBytesMax = min(configuration.headerListBytesMax, 65_535)
        session = Session(role: .server, configuration: limits)
        okHeaders = session.prepare(Self.responseFields)
        okTrailers = session.prepare(HeaderFields(["grpc-status": "0"]))
    }

    // MARK: The channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        peer.address = context.remoteAddress.map(Self.text) ?? ""
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

    func begin() {
        guard tick == nil else { return }
        scheduleTick()
        flushNow()
    }

    func end() {
        guard machine.channelClosed() else { return }
        tick?.cancel()
        close?.cancel()
        drainTimeout?.cancel()
        context = nil
        newAnonymousCalls = []
        for stream in session.streams {
            call(of: stream)?.close()
            stream.owner = nil
        }
        startWaiting()
        updateQueuedBytes()
        reportIfDone()
    }

    func handlerReturned() {
        resources.handlerReturned()
        reportIfDone()
    }

    func reportIfDone() {
        if machine.reportsEnd(runningHandlers: resources.runningHandlers) { whenDone() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard machine.bytesReceived() else { return }
        isReading = true
        defer { receives(nil) }
        var bytes = unwrapInboundIn(data)
        do {
            // The bytes are handled in parts, so that a flood is detected before it has caused much work.
            while machine.readsInput, let part = bytes.readSlice(length: min(bytes.readableBytes, partBytes)),
                part.readableBytes > 0
            {
                try session.receive(part)
                session.forEachEvent(handle)
                if let excess = excess() { cutOff(excess) }
            }
        } catch {
            logger.debug("connection failed", metadata: ["error": "\(error)"])
            if machine.sessionFailed() { reportRefusal(of: .protocolError) }
            session.forEachEvent(handle)
            flushNow()
            context.close(promise: nil)
        }
    }

    /// The parts are smaller where a few bytes can cause work for very many streams.
    var partBytes: Int {
        session.openStreams > Self.manyStreams ? Self.readBytes / 8 : Self.readBytes
    }

    func excess() -> FloodDetector.Excess? {
        let frames = flood.received(
            overheadFrames: session.overheadFramesReceived + session.headersIgnored,
            streamsResettled: session.streamsResettled,
            answers: session.messageFramesSent, now: .now())
        return frames ?? flood.received(invalidFrames: session.invalidFramesReceived, now: .now())
            ?? flood.sent(resets: session.resetsForFaults, now: .now())
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        // Handlers that were resumed by these reads answer in the same flush.
        executor.runPending()
        isReading = false
        flushNow()
        countAnonymousCalls()
    }

    func read(context: ChannelHandlerContext) {
        // Backpressure: no more requests are read from a client that does not read its responses.
        if context.channel.isWritable {
            context.read()
        } else {
            isReadHeld = true
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            resources.socketDrained()
            flushNow()
            if isReadHeld {
                isReadHeld = false
                context.read()
            }
        }
        context.fireChannelWritabilityChanged()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted(let negotiated)? = event as? TLSUserEvent {
            // exact: the TLS library returns one of the protocols that this server offered
            if negotiated != "h2" {
                logger.debug("client did not offer h2 by ALPN")
                reportRefusal(of: .handshakeFailed)
                context.close(promise: nil)
            }
            // A certificate that cannot be read counts as none.
            let tls = try? context.pipeline.syncOperations.handler(type: NIOSSLServerHandler.self)
            peer.certificate = try? tls?.peerCertificate?.toDERBytes()
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        logger.debug("connection failed", metadata: ["error": "\(error)"])
        // A port scan fails otherwise.
        if case .handshakeFailed? = error as? NIOSSLError { reportRefusal(of: .handshakeFailed) }
        context.close(promise: nil)
    }

    // MARK: Sending

    /// There is something to send. It is flushed at the end of this burst of reads, or of this round of jobs.
    func needsFlush() {
        guard !isReading, !isFlushScheduled, !machine.isClosed else { return }
        isFlushScheduled = true
        executor.flushLater(self)
    }

    func flushNow() {
        isFlushScheduled = false
        guard let context, !machine.isClosed else { return }
        var wrote = false
        do {
            var more = true
            while more, context.channel.isWritable {
                let capacity = min(
                    max(lastFlushBytes + lastFlushBytes / 4, 512), Self.writeBytes + 16 * 1024 + 512)
                var buffer = context.channel.allocator.buffer(capacity: capacity)
                more = try session.send(into: &buffer, limit: Self.writeBytes)
                if buffer.readableBytes == 0 { break }
                lastFlushBytes = buffer.readableBytes
                context.write(wrapOutboundOut(buffer), promise: nil)
                wrote = true
            }
        } catch {
            logger.debug("connection failed", metadata: ["error": "\(error)"])
            return context.close(promise: nil)
        }
        if wrote { context.flush() }
        session.forEachEvent(handle)
        startWaiting()
        updateQueuedBytes()
        if let excess = excess() { cutOff(excess) }
        if session.isFinished, case .closeAfterFlush(let isFault) = machine.sessionFinished() {
            if isFault { reportRefusal(of: .protocolError) }
            closeAfterFlush()
        }
    }

    /// Sends GOAWAY with the reason and closes the connection.
    func cutOff(_ excess: FloodDetector.Excess) {
        guard let context, machine.floodDetected() else { return }
        logger.debug(
            "client cut off", metadata: ["reason": "\(excess.rawValue)", "client": "\(peer.address)"])
        reportRefusal(of: ConnectionRefusal(excess))
        session.goAway(.enhanceYourCalm, excess.rawValue)
        refuseWaiting(
            Status(.unavailable, .connectionClosing, "the client was cut off: \(excess.rawValue)"))
        flushNow()
        // The channel is closed later: if it were closed while unread bytes are in the socket, the kernel would reset the
        // connection, and the client would lose what it has not read.
        if machine.cutOffSent() { closeLater(context, in: ServerConnectionStateMachine.cutOffTimeout) }
    }

    func closeLater(_ context: ChannelHandlerContext, in time: TimeAmount) {
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        close?.cancel()
        close = eventLoop.scheduleTask(in: time) { bound.value.closeAtOnce() }
    }

    /// Closes the channel without TLS's close_notify: until that was answered, the server would read and decrypt
    /// whatever the client sends.
    func closeAtOnce() {
        let tls = try? context?.pipeline.syncOperations.context(handlerType: NIOSSLServerHandler.self)
        (tls ?? context)?.close(promise: nil)
    }

    func closeAfterFlush() {
        guard let context else { return }
        let bound = NIOLoopBound(context, eventLoop: eventLoop)
        // An empty write completes after those before it.
        context.writeAndFlush(wrapOutboundOut(ByteBuffer())).whenComplete { _ in
            bound.value.close(promise: nil)
        }
        // A client that does not read must not keep the connection open.
        closeLater(context, in: configuration.handshakeTimeout.timeAmount)
    }

    // MARK: Events

    func call(of stream: HTTP2.Stream) -> ServerCall? {
        stream.owner as? ServerCall
    }

    func handle(_ event: Event) {
        // Events that arrive with the end of the channel must not begin anything, because nothing would end it.
        if machine.isClosed {
            guard case .closed = event else { return }
        }
        switch event {
        case .headers(let stream, let block, let endStream):
            if block.isTruncated { flood.faultAnswered() }
            if let call = call(of: stream) {
                // Trailers of a request have no meaning in gRPC, their END_STREAM has.
                if endStream { call.receiveEnd() }
            } else {
                begin(stream, block, endStream: endStream)
            }
        case .data(let stream, let bytes):
            if let call = call(of: stream) {
                call.receive(bytes)
            } else {
                session.consume(bytes.readableBytes, of: stream)
            }
        case .endStream(let stream):
            call(of: stream)?.receiveEnd()
        case .closed(let stream, _):
            call(of: stream)?.close()
            stream.owner = nil
        case .drained(let stream):
            call(of: stream)?.drained()
        case .settings:
            machine.settingsReceived()
        case .ping:
            let excess = flood.receivedPing(answers: session.messageFramesSent, now: .now())
            if let excess { cutOff(excess) }
        case .pingAcknowledged(let opaque):
            if machine.pingAcknowledged(opaque) { refuseNewStreams() }
        case .goAway:
            machine.goAwayReceived()
        case .settingsAcknowledged:
            break
        }
    }

    // MARK: Shutdown

    /// The connection is closed to make room for another one. A call that has arrived meanwhile is answered UNAVAILABLE, so
    /// that its client makes it again.
    func evict() {
        guard !machine.isClosed else { return }
        reportRefusal(of: .evicted)
        abort(.connectionClosing, "connection closed to make room for another one: connect again")
    }

    /// Starts a graceful drain: the client is asked to open no more streams, and once it has acknowledged, or the time
    /// limit has passed, new streams are refused. The connection closes with its last stream.
    func beginShutdown() {
        if machine.drain() { announceShutdown() }
    }

    func announceShutdown() {
        session.announceShutdown()
        // The GOAWAY is flushed on its own because the library would send the PING before it.
        flushNow()
        session.ping(ServerConnectionStateMachine.drainPing)
        flushNow()
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        drainTimeout = eventLoop.scheduleTask(in: ServerConnectionStateMachine.drainTimeout) {
            let connection = bound.value
            if connection.machine.drainTimedOut() { connection.refuseNewStreams() }
        }
    }

    func refuseNewStreams() {
        drainTimeout?.cancel()
        session.refuseNewStreams()
        needsFlush()
    }

    /// The end of a grace period: ends every call and the connection. A unary call whose handler runs may have been carried
    /// out, so it ends with another reason than the others.
    func abort(
        _ word: Status.Reason.Word = .shuttingDown, _ message: String = "the server is shutting down"
    ) {
        guard machine.abort() else { return }
        for stream in session.streams {
            guard let call = call(of: stream) else { continue }
            call.fail(Status(.unavailable, call.mayHaveTakenEffect ? .outcomeUnknown : word, message))
        }
        flushNow()
        session.terminate(.noError)
        flushNow()
        // Only the bytes that the socket takes at once are sent; the server does not wait for the client.
        closeAtOnce()
    }
}
