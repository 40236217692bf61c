internal import HTTP2
internal import NIOCore

/// The answer of a method that follows something: it is asked for as the client takes it.
extension ServerCall {
    func follow(_ source: any ResponseSource) {
        guard machine.isOpen else { return source.close() }
        self.source = source
        let bound = bound
        source.onReady { [executor = connection.executor] in executor.pump(bound) }
        pump()
    }

    /// Queues what the source has, as far as there is room.
    func pump() {
        while let source, !isSourceWorking {
            // A stream with nothing of its own queued is not told when the others' has drained: it may always queue one.
            guard stream.queuedBytes == 0 || hasRoom else {
                return connection.session.notifyWhenDrained(
                    stream, to: connection.configuration.outboundBytesPerStream / 2)
            }
            switch source.next() {
            case .message(let message): guard write(message) else { return closeSource() }
            case .wait: return
            case .work(let body): work(body)
            case .end(let status):
                closeSource()
                finish(status)
            }
        }
    }

    func work(_ body: @escaping @Sendable () async throws -> Void) {
        isSourceWorking = true
        connection.handlerStarted()
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
        if isSourceWorking { self.task = task }
    }

    func worked(_ failure: (any Error)?) {
        isSourceWorking = false
        task = nil
        defer { connection.handlerReturned() }
        guard source != nil else { return }
        if let failure {
            closeSource()
            finish(status(for: failure))
        } else {
            pump()
        }
    }

    func closeSource() {
        guard let source else { return }
        self.source = nil
        if isSourceWorking { task?.cancel() }
        source.close()
    }
}
