internal import HTTP2
internal import Logging
internal import NIOCore
internal import NIOSSL
internal import NIOTLS

/// One client's connection: between the channel's bytes and the calls. The only channel handler besides TLS.
///
/// What handlers answer within one burst of reads is sent with one flush at its end.
final class ServerConnection: ChannelDuplexHandler, LoopExecutor.Flushable {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let configuration: ServerConfiguration
    let session: Session
    let executor: LoopExecutor
    let budgets: SharedBudgets
    /// Nil: it is the only one.
    let place: ConnectionRegistry.Place?
    /// Whether the client would still be let in with the certificate that it has shown.
    let isTrusted: () -> Bool
    let okHeaders: PreparedHeaders
    let okTrailers: PreparedHeaders
    var eventLoop: any EventLoop { executor.eventLoop }
    /// Handlers that have not returned, be their streams open or not: a client that resets its calls gets no
    /// more of them than one that waits.
    var runningHandlers = 0
    /// Of them, those that make an answer, or a large part of one, as a whole: so that a client cannot have very many made
    /// at once, and read none, the others wait for their turn.
    var turnsTaken = 0
    /// With the message that the handler of a unary call is started with; of other calls the handler runs already.
    var waitingForTurn = CircularBuffer<(call: ServerCall, message: ByteBuffer?)>()
    var isStartingWaiting = false
    /// The sum of what the calls hold of their requests (`countRequests`).
    var requestBytes = 0
    /// Of them, what no handler has taken.
    var unfinishedBytes = 0
    var requestShare = SharedBudget.Share(free: requestBytesFree)
    var unfinishedShare = SharedBudget.Share(free: requestBytesFree)
    var unreadShare = SharedBudget.Share(free: unreadBytesFree)
    /// Whose request was received last, and may share memory with all that was received with it.
    var lastReceiving: ServerCall?

    let router: Router
    let logger: Logger
    var context: ChannelHandlerContext?
    var machine: ServerConnectionStateMachine
    var budget: ClientBudget
    var peer: Peer
    /// Of the requests with `lastHead`.
    var lastAdmitted: (any Admitted)?
    var tick: Scheduled<Void>?
    /// Closes the channel of a client that does not read what is still to be written.
    var close: Scheduled<Void>?
    /// The time limit of a graceful drain.
    var drainTimeout: Scheduled<Void>?
    var lastHead: RequestHead?

    /// Called once, when the channel is closed and no handler runs.
    let whenDone: () -> Void
    var isReading = false
    var isFlushScheduled = false
    var isReadHeld = false
    /// Calls of methods that take one message which were let in without credentials since bytes were last read: those
    /// that are not over when all of these are looked at count as open.
    var newAnonymousCalls: [ServerCall] = []
    /// One of its calls is open that nobody counts (`ServerCall.Anonymity`).
    var hasFreeCall = false
    /// Of the streams that were refused, those that were no fault of the client's.
    var resetsForgiven = 0
    /// Requests that were answered, but should not have been sent.
    var clientFaults = 0
    /// Of what the client lets through its window of the connection.
    var windowPace = Pace()
    var bodyBytesSeen = 0
    /// Of what its socket takes, and what it had taken at the last tick, if there was more for it even then.
    var socketPace = Pace()
    var acknowledgedBytesSeen: UInt64?
    /// What the last flush took, for the size of the next buffer.
    var lastFlushBytes = 0

    static let writeBytes = 64 * 1024
    static let readBytes = 16 * 1024
    static let manyStreams = 128
    static let responseFields = HeaderFields([":status": "200", "content-type": "application/grpc"])

    init(
        configuration: ServerConfiguration, router: Router, executor: LoopExecutor,
        budgets: SharedBudgets, place: ConnectionRegistry.Place? = nil,
        isTrusted: @escaping () -> Bool = { true }, logger: Logger, whenDone: @escaping () -> Void
    ) {
        self.budgets = budgets
        self.place = place
        peer = Peer(address: "", source: place?.source?.description ?? "", certificate: nil)
        self.isTrusted = isTrusted
        self.configuration = configuration
        self.router = router
        self.executor = executor
        self.logger = logger
        self.whenDone = whenDone
        machine = ServerConnectionStateMachine(
            timers: ConnectionTimers(
                configuration: configuration, now: .now(), ageFactor: .random(in: 0.9...1.1)))
        self.budget = ClientBudget(configuration: configuration, now: .now())
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
        countUnread()
        reportIfDone()
    }

    func handlerStarted() {
        runningHandlers += 1
    }

    func handlerReturned() {
        runningHandlers -= 1
        reportIfDone()
    }

    func reportIfDone() {
        if machine.reportsEnd(runningHandlers: runningHandlers) { whenDone() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard machine.bytesReceived() else { return }
        isReading = true
        defer { receives(nil) }
        var bytes = unwrapInboundIn(data)
        do {
            // In parts, so that a flood is noticed before much is made of it.
            while machine.readsInput, let part = bytes.readSlice(length: min(bytes.readableBytes, partBytes)),
                part.readableBytes > 0
            {
                try session.receive(part)
                session.forEachEvent(handle)
                if let excess = excess() { cutOff(excess) }
            }
        } catch {
            logger.debug("connection failed", metadata: ["error": "\(error)"])
            if machine.sessionFailed() { tellRefusal(of: .protocolError) }
            session.forEachEvent(handle)
            flushNow()
            context.close(promise: nil)
        }
    }

    /// Smaller ones where a few bytes can be work for very many streams.
    var partBytes: Int {
        session.openStreams > Self.manyStreams ? Self.readBytes / 8 : Self.readBytes
    }

    func excess() -> ClientBudget.Excess? {
        let frames = budget.received(
            overheadFrames: session.overheadFramesReceived + session.headersIgnored,
            streamsResettled: session.streamsResettled,
            answers: session.messageFramesSent, now: .now())
        return frames ?? budget.received(invalidFrames: session.invalidFramesReceived, now: .now())
            ?? budget.sent(resets: session.resetsForFaults - resetsForgiven + clientFaults, now: .now())
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        // Handlers that were resumed by what was read answer in the same flush.
        executor.runPending()
        isReading = false
        flushNow()
        countAnonymousCalls()
    }

    func read(context: ChannelHandlerContext) {
        // A client that does not read its answers is not asked for more requests.
        if context.channel.isWritable {
            context.read()
        } else {
            isReadHeld = true
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable {
            acknowledgedBytesSeen = nil
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
            // exact: the TLS library gives one of those that we offered
            if negotiated != "h2" {
                logger.debug("client did not offer h2 by ALPN")
                tellRefusal(of: .handshakeFailed)
                context.close(promise: nil)
            }
            // Without one, or one that cannot be read, the client has none.
            let tls = try? context.pipeline.syncOperations.handler(type: NIOSSLServerHandler.self)
            peer.certificate = try? tls?.peerCertificate?.toDERBytes()
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        logger.debug("connection failed", metadata: ["error": "\(error)"])
        // A client that only looks whether anybody listens fails otherwise.
        if case .handshakeFailed? = error as? NIOSSLError { tellRefusal(of: .handshakeFailed) }
        context.close(promise: nil)
    }

    // MARK: Sending

    /// There is something to send: at the end of this burst of reads, or of this round of jobs.
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
        countUnread()
        if let excess = excess() { cutOff(excess) }
        if session.isFinished, case .closeAfterFlush(let isFault) = machine.sessionFinished() {
            if isFault { tellRefusal(of: .protocolError) }
            closeAfterFlush()
        }
    }

    /// Sends GOAWAY with the reason and closes the connection.
    func cutOff(_ excess: ClientBudget.Excess) {
        guard let context, machine.floodDetected() else { return }
        logger.debug(
            "client cut off", metadata: ["reason": "\(excess.rawValue)", "client": "\(peer.address)"])
        tellRefusal(of: ConnectionRefusal(excess))
        session.goAway(.enhanceYourCalm, excess.rawValue)
        refuseWaiting(Status(.unavailable, "the client was cut off"))
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

    /// Without TLS's goodbye: until that is answered, whatever the client sends would be read and deciphered.
    func closeAtOnce() {
        let tls = try? context?.pipeline.syncOperations.context(handlerType: NIOSSLServerHandler.self)
        (tls ?? context)?.close(promise: nil)
    }

    func closeAfterFlush() {
        guard let context else { return }
        let bound = NIOLoopBound(context, eventLoop: eventLoop)
        // An empty write is done when those before it are.
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
            if block.isTruncated { clientFaults += 1 }
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
            let excess = budget.receivedPing(answers: session.messageFramesSent, now: .now())
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

    /// The connection is closed to make room for another one. Calls that have come meanwhile may be made again, and the
    /// client is told so.
    func giveUpPlace() {
        guard !machine.isClosed else { return }
        tellRefusal(of: .placeNeeded)
        abort("the server needs the place of this connection for another one: connect again")
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

    /// The end of a grace period: ends every call and the connection.
    func abort(_ reason: String = "the server is shutting down") {
        guard machine.abort() else { return }
        for stream in session.streams {
            call(of: stream)?.fail(Status(.unavailable, reason))
        }
        flushNow()
        session.terminate(.noError)
        flushNow()
        // What the socket takes at once is sent; the server does not wait for the client.
        closeAtOnce()
    }
}
