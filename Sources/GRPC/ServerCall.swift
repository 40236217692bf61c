internal import HTTP2
internal import Logging
internal import MessageCompression
internal import NIOCore

/// Drives one call: carries out what its state machine decides, and owns the task of its handler or of its source.
///
/// It lives on the connection's event loop, as does the handler's task.
final class ServerCall {
    let stream: HTTP2.Stream
    let connection: ServerConnection
    let context: ServerContext
    var machine: ServerStreamStateMachine

    var deadline: Scheduled<Void>?
    /// The handler waits for a message.
    var reader: CheckedContinuation<ByteBuffer?, any Error>?
    var writer = Writer.none

    var handler = HandlerState.idle

    // Small properties are together: a hundred thousand calls may wait for hours.

    /// The size of the message that the running handler was started with.
    var messageBytes: UInt32 = 0
    /// This call's part of `ConnectionResources.requestBytes`.
    var countedBytes: UInt32 = 0
    /// This call's part of `ConnectionResources.unfinishedBytes`.
    var countedUnfinishedBytes: UInt32 = 0
    /// Bytes of the request received since the last tick.
    var receivedBytes: UInt32 = 0
    /// Progress of the client that reads the response or sends the request.
    var stall = StallDetector()
    /// The compression of the response's messages, which its headers have announced.
    var responseCoding: Coding?
    var anonymity = Anonymity.none

    /// Whether the call counts as an open one without credentials.
    enum Anonymity {
        /// The call has credentials, or needs none, or is answered within one burst of reads.
        case none
        /// `ConnectionLimiter` counts the call.
        case counted
        /// The one call of its connection that is exempt.
        case exempt
    }

    /// A handler that waits to write.
    enum Writer {
        case none
        /// It waits until its messages drain.
        case drain(CheckedContinuation<Void, any Error>)
        /// It waits for a permit to make a message.
        case permit(CheckedContinuation<Void, any Error>)
    }

    init(
        stream: HTTP2.Stream, connection: ServerConnection, method: Method, head: RequestHead,
        messageBytesMax: Int, admitted: (any Admitted)?, record: CallRecord?
    ) {
        self.stream = stream
        self.connection = connection
        let requests: ServerStreamStateMachine.Requests
        let sharesMemory: Bool
        switch method.handler {
        case .unary: (requests, sharesMemory) = (.one, true)
        // These may keep a message for hours: it must not pin the bytes around it.
        case .serverStream: (requests, sharesMemory) = (.one, false)
        case .bidirectional: (requests, sharesMemory) = (.many, false)
        }
        self.machine = ServerStreamStateMachine(
            requests: requests, messageBytesMax: messageBytesMax, sharesMemory: sharesMemory,
            coding: head.coding)
        self.context = ServerContext(method: method, head: head, admitted: admitted)
        if record != nil { self.record = record }
        if let timeout = head.timeout {
            let bound = NIOLoopBound(self, eventLoop: connection.eventLoop)
            deadline = connection.eventLoop.scheduleTask(in: timeout.timeAmount) {
                bound.value.fail(.deadlinePassed)
            }
        }
    }

    /// Nil when there are no interceptors, or they have seen the end of the call. The connection keeps it, so that calls
    /// take no memory for it where there are no interceptors.
    var record: CallRecord? {
        get { connection.records.isEmpty ? nil : connection.records[stream.id] }
        set { connection.records[stream.id] = newValue }
    }

    // MARK: From the client

    /// Begins once the caller's credentials are checked. Messages that arrive meanwhile wait, as they do for a handler.
    func start(after admission: @escaping @Sendable () async throws -> any Admitted) {
        handler = .awaitingAdmission(nil, endReceived: false)
        connection.resources.handlerStarted()
        if !connection.machine.isAdmitted { connection.registration?.pendingCallsChanged(by: 1) }
        let bound = bound
        let task = Task.immediate(executorPreference: connection.executor) {
            let result: Result<any Admitted, any Error>
            do {
                result = .success(try await admission())
            } catch {
                result = .failure(error)
            }
            bound.value.admitted(result)
        }
        if case .awaitingAdmission(nil, let endReceived) = handler {
            handler = .awaitingAdmission(task, endReceived: endReceived)
        }
    }

    func admitted(_ result: Result<any Admitted, any Error>) {
        guard case .awaitingAdmission(_, let endReceived) = handler else {
            return assertionFailure("admitted twice")
        }
        handler = .idle
        defer {
            if !connection.machine.isAdmitted { connection.registration?.pendingCallsChanged(by: -1) }
            connection.handlerReturned()
        }
        guard machine.isOpen else { return }
        switch result {
        case .success(let admitted):
            context.setAdmitted(admitted)
            connection.callAccepted(admitted)
            start()
            if endReceived { receiveEnd() }
        case .failure(let refusal as AdmissionRefusal):
            connection.reportRefusal(of: context.method, refusal)
            fail(refusal.status, isReported: true)
        case .failure(let error):
            fail(status(for: error))
        }
    }

    /// Whether the caller's credentials are still valid.
    var isAdmitted: Bool { context.admitted?.isValid ?? true }

    /// The call is admitted. A bidirectional handler starts at once.
    func start() {
        guard case .bidirectional(let handler) = context.method.handler else { return }
        startBidirectional(handler)
    }

    func receive(_ bytes: ByteBuffer) {
        receivedBytes = UInt32(clamping: Int(receivedBytes) + bytes.readableBytes)
        connection.receives(self)
        switch machine.receive(bytes) {
        case .none: break
        case .deliver: deliver()
        case .fail(let status): fail(status)
        }
        if let excess = countRequestBytes() { fail(excess) }
        connection.session.consume(machine.takeReleasedBytes(), of: stream)
    }

    /// To be called after anything that buffers or releases a part of the request. The status is there when the call
    /// must end because too much is held.
    @discardableResult
    func countRequestBytes() -> Status? {
        // The length of a message has four bytes, and one message is buffered at a time.
        let bufferedBytes = UInt32(machine.bufferedBytes)
        let bytes = bufferedBytes + messageBytes
        guard bytes != countedBytes || bufferedBytes != countedUnfinishedBytes else { return nil }
        defer { (countedBytes, countedUnfinishedBytes) = (bytes, bufferedBytes) }
        return connection.resources.admit(
            request: .init(
                held: Int(bytes) - Int(countedBytes),
                unfinished: Int(bufferedBytes) - Int(countedUnfinishedBytes), total: Int(bytes)))
    }

    func receiveEnd() {
        if case .awaitingAdmission(let task, _) = handler {
            handler = .awaitingAdmission(task, endReceived: true)
            return
        }
        // The request is complete: from here on only the reading of the response can stall.
        stall.reset()
        switch machine.receiveEnd() {
        case .none: break
        case .deliver: deliver()
        case .fail(let status): fail(status)
        case .start(let message):
            messageBytes = UInt32(message.readableBytes)
            // Decompression may have made it a thousand times as large.
            if let excess = countRequestBytes() {
                messageBytes = 0
                return fail(excess)
            }
            noteCompression()
            record?.requestTaken(message)
            switch context.method.handler {
            case .unary(takesPermit: true, _): connection.startWithPermit(self, message)
            case .unary: startUnary(message)
            case .serverStream(let handler): startStream(handler, message)
            case .bidirectional: assertionFailure("a bidirectional handler starts with the headers")
            }
        }
        countRequestBytes()
    }

    /// The stream is closed: answered, reset by the client, or lost with its connection.
    func close() {
        deadline?.cancel()
        deadline = nil
        switch anonymity {
        case .none: break
        case .counted: connection.registration?.anonymousCallEnded()
        case .exempt: connection.hasExemptCall = false
        }
        anonymity = .none
        switch machine.close() {
        case .none: break
        case .cancelHandler:
            handler.cancelTask()
            endRecord(Status(.cancelled, "the client has cancelled the call, or its connection was lost"))
        }
        countRequestBytes()
        if handler.isRunning { releaseWaiters(CancellationError()) }
        closeSource()
    }

    /// The connection's tick.
    ///
    /// - Returns: for how many ticks the client has read too little of the response, or sent too little of a request that
    ///   it has begun.
    func countStall() -> Int {
        let sentBytes = stream.takeSentBytes()
        defer { receivedBytes = 0 }
        if stream.queuedBytes > 0, connection.session.isHeldByPeer(stream) {
            return stall.tick(moved: connection.resources.progress(ofResponses: sentBytes))
        }
        // A request does not stall while it is the server that does not read on.
        if countedUnfinishedBytes > 0, !connection.isReadHeld, awaitsClient {
            return stall.tick(moved: connection.resources.progress(ofRequests: Int(receivedBytes)))
        }
        stall.reset()
        // The stream waits for the connection's window, which the other streams use too.
        return stream.queuedBytes > 0 ? connection.resources.windowStallTicks : 0
    }

    /// The server takes more of the request as soon as the client sends it.
    private var awaitsClient: Bool {
        switch handler {
        case .awaitingAdmission: false
        case .idle, .streaming(.source, _), .streaming(.halfClosed, _): true
        case .running: reader != nil
        case .streaming(.exchange(let exchange), _): exchange.isReady
        }
    }

    func endRecord(_ status: @autoclosure () -> Status) {
        guard let record else { return }
        self.record = nil
        record.admitted = context.admitted
        connection.end(record, status())
    }

    func noteCompression() {
        if context.mayBeCompressed { context.setRequestWasCompressed(machine.wasCompressed) }
    }

    func drained() {
        guard case .drain(let continuation) = writer else { return pump() }
        writer = .none
        continuation.resume()
    }

    var bound: NIOLoopBound<ServerCall> {
        NIOLoopBound(self, eventLoop: connection.eventLoop)
    }

    // MARK: Ends

    /// Ends the call with a status that is not the handler's, and cancels the handler.
    ///
    /// - Parameter isReported: the refusal was reported already.
    func fail(_ status: Status, isReported: Bool = false) {
        finish(status, isReported: isReported)
        countRequestBytes()
        handler.cancelTask()
        releaseWaiters(status)
        closeSource()
    }

    func releaseWaiters(_ error: any Error) {
        if let reader {
            self.reader = nil
            reader.resume(throwing: error)
        }
        releaseWriter(error)
    }

    func releaseWriter(_ error: any Error) {
        let writer = writer
        self.writer = .none
        switch writer {
        case .none: break
        case .drain(let continuation): continuation.resume(throwing: error)
        case .permit(let continuation):
            connection.stopWaitingForPermit(self)
            continuation.resume(throwing: error)
        }
    }

    // MARK: Requests

    func deliver() {
        guard let reader else { return feed() }
        switch machine.pull() {
        case .wait: return
        case .message(let message):
            self.reader = nil
            noteCompression()
            record?.requestTaken(message)
            reader.resume(returning: message)
        case .end:
            self.reader = nil
            reader.resume(returning: nil)
        case .fail(let status): fail(status)
        case .gone:
            self.reader = nil
            reader.resume(throwing: CancellationError())
        }
    }

    /// The handler asks for the next message.
    func pull(_ continuation: CheckedContinuation<ByteBuffer?, any Error>) {
        guard reader == nil else {
            return continuation.resume(
                throwing: Status(.internalError, .internalError, "two readers of one request stream"))
        }
        reader = continuation
        deliver()
        returnWindow()
    }

    /// The handler has taken what there was of the request: opens the stream's flow-control window.
    func returnWindow() {
        countRequestBytes()
        connection.session.consume(machine.takeReleasedBytes(), of: stream)
        connection.needsFlush()
    }

    func cancelPull() {
        guard let reader else { return }
        self.reader = nil
        reader.resume(throwing: CancellationError())
    }

    func cancelWriter() {
        releaseWriter(CancellationError())
    }
}
