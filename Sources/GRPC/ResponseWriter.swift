package import NIOCore

/// Sends the messages of a streaming answer. One task writes at a time.
package struct ResponseWriter: Sendable {
    let call: NIOLoopBound<ServerCall>

    /// Queues a message, and waits while the client is too far behind (`outboundBytesPerStream`).
    ///
    /// - Parameter compressed: false sends it as it is, whatever `ServerContext.responseCoding` says.
    /// - Throws: `CancellationError` when the call is over or the task is cancelled.
    package func write(_ message: ByteBuffer, compressed: Bool = true) async throws {
        if call.eventLoop.inEventLoop {
            switch call.value.writeFromHandler(message, compressed: compressed) {
            case .some(true): return
            case .some(false): try await waitForDrain(writing: nil, compressed)
            case .none: throw CancellationError()
            }
        } else {
            try await waitForDrain(writing: message, compressed)
        }
    }

    /// The same for a message that may be large. It is made in its turn: so that many calls of a connection do not have one
    /// each, of which their client has not read the first.
    ///
    /// - Parameter make: nil: there is nothing to send.
    package func write(inTurn make: () async throws -> ByteBuffer?) async throws {
        if let message = try await inTurn(make) { try await write(message) }
    }

    private func inTurn(_ make: () async throws -> ByteBuffer?) async throws -> ByteBuffer? {
        let call = call
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Void, any Error>) in
                if Task.isCancelled { return continuation.resume(throwing: CancellationError()) }
                if call.eventLoop.inEventLoop { return call.value.waitForPermit(continuation) }
                call.eventLoop.execute { call.value.waitForPermit(continuation) }
                // As in `waitForDrain`.
                if Task.isCancelled { call.eventLoop.execute { call.value.cancelWriter() } }
            }
        } onCancel: {
            call.eventLoop.execute { call.value.cancelWriter() }
        }
        defer {
            if call.eventLoop.inEventLoop {
                call.value.connection.permitReturned()
            } else {
                call.eventLoop.execute { call.value.connection.permitReturned() }
            }
        }
        return try await make()
    }

    private func waitForDrain(writing message: ByteBuffer?, _ compressed: Bool) async throws {
        let call = call
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Void, any Error>) in
                if Task.isCancelled { return continuation.resume(throwing: CancellationError()) }
                guard let message else { return call.value.waitForDrain(continuation) }
                call.eventLoop.execute {
                    switch call.value.writeFromHandler(message, compressed: compressed) {
                    case .some(true): continuation.resume()
                    case .some(false): call.value.waitForDrain(continuation)
                    case .none: continuation.resume(throwing: CancellationError())
                    }
                }
                // A cancellation since it was asked may have reached the loop before the continuation did. One from
                // here on comes after it.
                if Task.isCancelled { call.eventLoop.execute { call.value.cancelWriter() } }
            }
        } onCancel: {
            call.eventLoop.execute { call.value.cancelWriter() }
        }
    }
}

/// The messages of a streaming request. One task reads, once. The client is held back by HTTP/2's window while
/// messages are not read.
package struct RequestStream: AsyncSequence, Sendable {
    package typealias Element = ByteBuffer

    let call: NIOLoopBound<ServerCall>

    package func makeAsyncIterator() -> Iterator {
        Iterator(call: call)
    }

    package struct Iterator: AsyncIteratorProtocol {
        let call: NIOLoopBound<ServerCall>

        /// Nil when the client has half-closed.
        ///
        /// - Throws: `CancellationError` when the call is over or the task is cancelled; a `Status` when the
        ///   client breaks the protocol.
        package mutating func next() async throws -> ByteBuffer? {
            let call = call
            return try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { continuation in
                    if Task.isCancelled { return continuation.resume(throwing: CancellationError()) }
                    if call.eventLoop.inEventLoop {
                        call.value.pull(continuation)
                    } else {
                        call.eventLoop.execute { call.value.pull(continuation) }
                        // As in `waitForDrain`.
                        if Task.isCancelled { call.eventLoop.execute { call.value.cancelPull() } }
                    }
                }
            } onCancel: {
                call.eventLoop.execute { call.value.cancelPull() }
            }
        }
    }
}
