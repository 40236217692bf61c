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
    /// Nil when there are no interceptors, or they have seen the end of the call.
    var record: CallRecord?

    var task: Task<Void, Never>?
    var deadline: Scheduled<Void>?
    /// The handler waits for a message.
    var reader: CheckedContinuation<ByteBuffer?, any Error>?
    /// The handler waits for its messages to drain, or for a permit to make one.
    var writer: CheckedContinuation<Void, any Error>?
    /// The rest of the response is pulled from it.
    var source: (any ResponseSource)?

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
    /// How messages of the response are compressed, as its headers have announced.
    var responseCoding: Coding?
    var isHandlerRunning = false
    /// `task` is work that the source has asked for.
    var isSourceWorking = false
    /// `writer` waits for a permit.
    var waitsForPermit = false
    var anonymity = Anonymity.none
    /// The caller's credentials are being checked. `hasHeldEnd`: END_STREAM was received meanwhile.
    var isHeld = false
    var hasHeldEnd = false

    /// How an open call without credentials counts.
    enum Anonymity {
        /// The call has credentials, or needs none, or is answered within one burst of reads.
        case none
        /// `ConnectionPlaces` counts the call.
        case counted
        /// The one call of its connection that is exempt.
        case exempt
    }

    enum Outcome: Sendable {
        case message(ByteBuffer)
        case end
        case source(any ResponseSource)
        case failure(any Error)
    }

    init(
        stream: HTTP2.Stream, connection: ServerConnection, method: Method, head: RequestHead,
        messageBytesMax: Int, admitted: (any Admitted)?, record: CallRecord?
    ) {
        self.record = record
        self.stream = stream
        self.connection = connection
        let requests: ServerStreamStateMachine.Requests
        let sharesMemory: Bool
        switch method.handler {
        case .unary, .replying: (requests, sharesMemory) = (.one, true)
        // These may keep a message for hours: it must not pin the bytes around it.
        case .serverStreaming, .following: (requests, sharesMemory) = (.one, false)
        case .bidirectional: (requests, sharesMemory) = (.many, false)
        }
        self.machine = ServerStreamStateMachine(
            requests: requests, messageBytesMax: messageBytesMax, sharesMemory: sharesMemory,
            coding: head.coding)
        self.context = ServerContext(method: method, head: head, admitted: admitted)
        if let timeout = head.timeout {
            let bound = NIOLoopBound(self, eventLoop: connection.eventLoop)
            deadline = connection.eventLoop.scheduleTask(in: timeout.timeAmount) {
                bound.value.fail(Status(.deadlineExceeded, "the deadline has passed"))
            }
        }
    }

    // MARK: From the client

    /// Begins once the caller's credentials are checked. Messages that arrive meanwhile wait, as they do for a handler.
    func start(after admission: @escaping @Sendable () async throws -> any Admitted) {
        isHeld = true
        connection.resources.handlerStarted()
        if !connection.machine.isAdmitted { connection.place?.pendingCallsChanged(by: 1) }
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
        if isHeld { self.task = task }
    }

    func admitted(_ result: Result<any Admitted, any Error>) {
        isHeld = false
        task = nil
        defer {
            if !connection.machine.isAdmitted { connection.place?.pendingCallsChanged(by: -1) }
            connection.handlerReturned()
        }
        guard machine.isOpen else { return }
        switch result {
        case .success(let admitted):
            context.setAdmitted(admitted)
            connection.letIn(admitted)
            start()
            if hasHeldEnd { receiveEnd() }
        case .failure(let refusal as AdmissionRefusal):
            connection.tellRefusal(of: context.method, refusal)
            fail(refusal.status, isTold: true)
        case .failure(let error):
            fail(status(for: error))
        }
    }

    /// Whether the caller's credentials are still valid.
    var isAdmitted: Bool { context.admitted?.isValid ?? true }

    /// The headers are accepted. A bidirectional handler starts at once.
    func start() {
        guard case .bidirectional(let handler) = context.method.handler else { return }
        let (requests, responses) = (RequestStream(call: bound), ResponseWriter(call: bound))
        let context = context
        run { () async throws -> Outcome in
            try await handler(requests, context, responses)
            return .end
        }
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

    /// To be called after anything that buffers or releases a part of the request. The status is there when the call must end
    /// because too much is held.
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
        guard !isHeld else {
            hasHeldEnd = true
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
            let context = context
            switch context.method.handler {
            case .unary:
                connection.startWithPermit(self, message)
            case .replying(let handler):
                runReplying(handler, message)
            case .serverStreaming(let handler):
                let responses = ResponseWriter(call: bound)
                run { () async throws -> Outcome in
                    try await handler(message, context, responses)
                    return .end
                }
            case .following(let handler):
                let responses = ResponseWriter(call: bound)
                run { () async throws -> Outcome in
                    .source(try await handler(message, context, responses))
                }
            case .bidirectional:
                assertionFailure("a bidirectional handler starts with the headers")
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
        case .counted: connection.place?.anonymousCallEnded()
        case .exempt: connection.hasExemptCall = false
        }
        anonymity = .none
        switch machine.close() {
        case .none: break
        case .cancelHandler:
            task?.cancel()
            endRecord(Status(.cancelled, "the client has cancelled the call, or its connection was lost"))
        }
        countRequestBytes()
        if isHandlerRunning { releaseWaiters(CancellationError()) }
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
        if countedUnfinishedBytes > 0, !isHeld, !connection.isReadHeld, !isHandlerRunning || reader != nil {
            return stall.tick(moved: connection.resources.progress(ofRequests: Int(receivedBytes)))
        }
        stall.reset()
        // The stream waits for the connection's window, which the other streams use too.
        return stream.queuedBytes > 0 ? connection.resources.windowStallTicks : 0
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
        guard let writer, !waitsForPermit else { return pump() }
        self.writer = nil
        writer.resume()
    }

    // MARK: The handler

    var bound: NIOLoopBound<ServerCall> {
        NIOLoopBound(self, eventLoop: connection.eventLoop)
    }

    /// Runs the handler until it first suspends, and later on the same thread.
    func run(_ body: @escaping @Sendable () async throws -> Outcome) {
        isHandlerRunning = true
        connection.resources.handlerStarted()
        let bound = bound
        let task = Task.immediate(executorPreference: connection.executor) {
            let outcome: Outcome
            do {
                outcome = try await body()
            } catch {
                outcome = .failure(error)
            }
            bound.value.handlerReturned(outcome)
        }
        if isHandlerRunning {
            self.task = task
        }
    }

    /// Runs a handler that returns one message, with one closure less than `run`.
    func runUnary(_ body: @escaping @Sendable () async throws -> ByteBuffer) {
        isHandlerRunning = true
        connection.resources.handlerStarted()
        let bound = bound
        let task = Task.immediate(executorPreference: connection.executor) {
            let outcome: Outcome
            do {
                outcome = .message(try await body())
            } catch {
                outcome = .failure(error)
            }
            bound.value.handlerReturned(outcome)
        }
        if isHandlerRunning {
            self.task = task
        }
    }

    /// Starts the handler of a unary method, unless the call is over.
    func startUnary(_ message: ByteBuffer) {
        guard machine.isOpen, case .unary(let handler) = context.method.handler else {
            messageBytes = 0
            countRequestBytes()
            return
        }
        connection.resources.takePermit()
        let context = context
        runUnary { try await handler(message, context) }
    }

    func runReplying(_ handler: ReplyingHandler, _ message: ByteBuffer) {
        let step: UnaryStep
        do {
            step = try handler(message, context, Reply(call: bound, executor: connection.executor))
        } catch {
            messageBytes = 0
            return finish(status(for: error))
        }
        switch step {
        case .message(let answer):
            messageBytes = 0
            if write(answer) { finish(nil) }
        case .later:
            isHandlerRunning = true
            connection.resources.handlerStarted()
        case .work(let body):
            runUnary(body)
        }
    }

    /// The answer to a call that its handler has left open.
    func replied(_ answer: () throws -> ByteBuffer) {
        guard isHandlerRunning else { return assertionFailure("two replies to one call") }
        guard machine.isOpen else { return handlerReturned(.end) }
        do {
            handlerReturned(.message(try answer()))
        } catch {
            handlerReturned(.failure(error))
        }
    }

    func handlerReturned(_ outcome: Outcome) {
        isHandlerRunning = false
        task = nil
        messageBytes = 0
        defer {
            countRequestBytes()
            if case .unary = context.method.handler { connection.permitReturned() }
            connection.handlerReturned()
        }
        switch outcome {
        case .message(let message):
            guard write(message) else { return }
            finish(nil)
        case .end: finish(nil)
        case .source(let source): follow(source)
        case .failure(let error):
            if machine.isOpen {
                finish(status(for: error))
            } else if !(error is CancellationError) {
                // The client is gone or has its answer, and its leaving may be the very cause of the error.
                connection.log(error, of: context.path)
            }
        }
    }

    func status(for error: any Error) -> Status {
        switch error {
        case let error as Status: return error
        case is CancellationError: return Status(.cancelled, "the call was cancelled")
        default:
            connection.log(error, of: context.path)
            return connection.configuration.errorMapper(error)
        }
    }

    // MARK: Ends

    /// Ends the call with a status that is not the handler's, and cancels the handler.
    ///
    /// - Parameter isTold: the refusal was reported already.
    func fail(_ status: Status, isTold: Bool = false) {
        finish(status, isTold: isTold)
        countRequestBytes()
        task?.cancel()
        releaseWaiters(status)
        closeSource()
    }

    func releaseWaiters(_ error: any Error) {
        if let reader {
            self.reader = nil
            reader.resume(throwing: error)
        }
        if let writer {
            self.writer = nil
            leavePermitQueue()
            writer.resume(throwing: error)
        }
    }

    func deliver() {
        guard let reader else { return }
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
            return continuation.resume(throwing: Status(.internalError, "two readers of one request stream"))
        }
        reader = continuation
        deliver()
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
        guard let writer else { return }
        self.writer = nil
        leavePermitQueue()
        writer.resume(throwing: CancellationError())
    }

    private func leavePermitQueue() {
        guard waitsForPermit else { return }
        waitsForPermit = false
        connection.stopWaitingForPermit(self)
    }
}
