internal import HTTP2
internal import NIOCore

/// Pulls the response of a call from its source as the client reads it, and gives requests to its exchange.
extension ServerCall {
    func follow(_ source: HandlerState.Source) {
        guard machine.isOpen else { return source.responses.close() }
        handler = .streaming(source, .none)
        let bound = bound
        source.responses.onReady { [executor = connection.executor] in executor.wake(bound) }
        pump()
    }

    /// The source has more, or the exchange is ready for more requests.
    func woken() {
        if case .streaming(.exchange, _) = handler {
            feed()
            returnWindow()
        }
        pump()
    }

    /// Queues what the source has, as far as there is room.
    func pump() {
        guard case .streaming(let source, .none) = handler else { return }
        // The state is looked at once, not before each message: to copy it costs about as much as to queue a message.
        let responses = source.responses
        while true {
            // A stream with nothing queued gets no drain notification when the other streams drain, so it may always queue
            // one message.
            guard stream.queuedBytes == 0 || hasRoom else {
                return connection.session.notifyWhenDrained(
                    stream, to: connection.configuration.outboundBytesPerStream / 2)
            }
            switch responses.next() {
            case .message(let message): guard write(message) else { return closeSource() }
            case .wait: return
            // It pumps again when its task has returned, which may be at once.
            case .work(let body): return work(source, body)
            case .end(let status):
                closeSource()
                return finish(status)
            }
        }
    }

    /// Gives complete messages of the request to the exchange, as long as it is ready for them.
    func feed() {
        while case .streaming(.exchange(let exchange), let work) = handler, exchange.isReady {
            switch machine.pull() {
            case .wait, .gone: return
            case .message(let message):
                noteCompression()
                record?.requestTaken(message)
                exchange.receive(message)
            case .end:
                handler = .streaming(.halfClosed(exchange), work)
                exchange.receiveEnd()
            case .fail(let status): return fail(status)
            }
            pump()
        }
    }

    private func work(_ source: HandlerState.Source, _ body: @escaping @Sendable () async throws -> Void) {
        handler = .streaming(source, .starting)
        connection.resources.handlerStarted()
        let bound = bound
        let task = Task.immediate(executorPreference: connection.executor) {
            var failure: (any Error)?
            do {
                try await body()
            } catch {
                failure = error
            }
            bound.value.worked(failure)
        }
        // The task may have returned, and another one begun.
        if case .streaming(let source, .starting) = handler { handler = .streaming(source, .running(task)) }
    }

    private func worked(_ failure: (any Error)?) {
        defer { connection.handlerReturned() }
        guard case .streaming(let source, _) = handler else { return }
        handler = .streaming(source, .none)
        if let failure {
            closeSource()
            finish(status(for: failure))
        } else {
            pump()
        }
    }

    func closeSource() {
        guard case .streaming(let source, _) = handler else { return }
        handler.cancelTask()
        handler = .idle
        source.responses.close()
    }
}
