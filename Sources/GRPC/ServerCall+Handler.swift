internal import NIOCore

/// The part that serves a call now: its admission, then its handler, then the source or exchange that the handler returned.
enum HandlerState {
    /// The caller's credentials are being checked. `endReceived`: END_STREAM has come meanwhile. Exit: `admitted` → idle.
    case awaitingAdmission(Task<Void, Never>?, endReceived: Bool)
    /// The request is not complete, or the handler has returned and there is nothing to pull from. Exits: `run` →
    /// running, `follow` → streaming.
    case idle
    /// The handler runs, as a task or until it uses its `Reply`. Exits: `handlerReturned` → idle or streaming.
    case running(Task<Void, Never>?)
    /// The response is pulled from a source. Exit: `closeSource` → idle.
    case streaming(Source, Work)

    enum Source {
        case source(any ResponseSource)
        /// Requests are given to the exchange as well. Exit: END_STREAM → halfClosed.
        case exchange(any MessageExchange)
        /// The exchange has been given the end of the request.
        case halfClosed(any MessageExchange)

        var responses: any ResponseSource {
            switch self {
            case .source(let source): source
            case .exchange(let exchange), .halfClosed(let exchange): exchange
            }
        }
    }

    /// The task that a source has asked for.
    enum Work {
        case none
        /// The task exists, and has not returned, but is not known here yet.
        case starting
        case running(Task<Void, Never>)
    }

    var isRunning: Bool {
        if case .running = self { true } else { false }
    }

    func cancelTask() {
        switch self {
        case .awaitingAdmission(let task, _), .running(let task): task?.cancel()
        case .streaming(_, .running(let task)): task.cancel()
        case .idle, .streaming: break
        }
    }
}

extension ServerCall {
    /// A unary call whose handler runs. It may have been carried out, and ends soon by itself.
    var mayHaveTakenEffect: Bool { handler.isRunning && !context.method.isStreaming }
}

/// Runs the handler of a call. Tasks run on the event loop of its connection, and begin at once.
extension ServerCall {
    enum Outcome: Sendable {
        case message(ByteBuffer)
        case end
        case source(any ResponseSource)
        case failure(any Error)
    }

    private func begin() {
        handler = .running(nil)
        connection.resources.handlerStarted()
    }

    private func began(_ task: Task<Void, Never>) {
        if case .running(nil) = handler { handler = .running(task) }
    }

    private func run(_ body: @escaping @Sendable () async throws -> (any ResponseSource)?) {
        begin()
        let bound = bound
        began(
            Task.immediate(executorPreference: connection.executor) {
                let outcome: Outcome
                do {
                    let source = try await body()
                    outcome = source.map(Outcome.source) ?? .end
                } catch {
                    outcome = .failure(error)
                }
                bound.value.handlerReturned(outcome)
            })
    }

    /// Runs a handler that returns one message, with one closure less than `run`.
    private func runUnary(_ body: @escaping @Sendable () async throws -> ByteBuffer) {
        begin()
        let bound = bound
        began(
            Task.immediate(executorPreference: connection.executor) {
                let outcome: Outcome
                do {
                    outcome = .message(try await body())
                } catch {
                    outcome = .failure(error)
                }
                bound.value.handlerReturned(outcome)
            })
    }

    /// Starts the handler of a unary method, unless the call is over.
    func startUnary(_ message: ByteBuffer) {
        guard machine.isOpen, case .unary(let takesPermit, let body) = context.method.handler else {
            messageBytes = 0
            countRequestBytes()
            return
        }
        if takesPermit { connection.resources.takePermit() }
        let step: UnaryStep
        do {
            step = try body(message, context, Reply(call: bound, executor: connection.executor))
        } catch {
            finish(status(for: error))
            return unaryAnswered(takesPermit)
        }
        switch step {
        case .message(let answer):
            messageBytes = 0
            if write(answer) { finish(nil) }
            unaryAnswered(takesPermit)
        case .later: begin()
        case .work(let body): runUnary(body)
        }
    }

    /// The handler has answered without a task.
    private func unaryAnswered(_ takesPermit: Bool) {
        messageBytes = 0
        countRequestBytes()
        if takesPermit { connection.permitReturned() }
    }

    func startStream(_ body: ServerStreamHandler, _ message: ByteBuffer) {
        do {
            switch try body(message, context, ResponseWriter(call: bound)) {
            case .source(let source):
                messageBytes = 0
                follow(.source(source))
            case .work(let body): run(body)
            }
        } catch {
            messageBytes = 0
            finish(status(for: error))
        }
    }

    func startBidirectional(_ body: BidirectionalHandler) {
        do {
            switch try body(context, RequestStream(call: bound), ResponseWriter(call: bound)) {
            case .exchange(let exchange):
                follow(.exchange(exchange))
                // Messages may have arrived before the call was admitted.
                woken()
            case .work(let body): run(body)
            }
        } catch {
            finish(status(for: error))
        }
    }

    /// Answers a call that its handler has left open.
    func replied(_ answer: () throws -> ByteBuffer) {
        guard handler.isRunning else { return assertionFailure("two replies to one call") }
        guard machine.isOpen else { return handlerReturned(.end) }
        do {
            handlerReturned(.message(try answer()))
        } catch {
            handlerReturned(.failure(error))
        }
    }

    func handlerReturned(_ outcome: Outcome) {
        handler = .idle
        messageBytes = 0
        defer {
            countRequestBytes()
            if case .unary(takesPermit: true, _) = context.method.handler { connection.permitReturned() }
            connection.handlerReturned()
        }
        switch outcome {
        case .message(let message):
            guard write(message) else { return }
            finish(nil)
        case .end: finish(nil)
        case .source(let source): follow(.source(source))
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
        case is CancellationError: return .callCancelled
        default:
            connection.log(error, of: context.path)
            return connection.configuration.errorMapper(error, context.path)
        }
    }
}
