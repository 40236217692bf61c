package import NIOCore

/// Sends the messages of a streaming response. One task writes at a time.
package struct ResponseWriter: Sendable {
    let call: NIOLoopBound<ServerCall>

    /// Queues a message, and waits while the client is too far behind (`outboundBytesPerStream`).
    ///
    /// - Parameter compressed: false sends the message uncompressed, whatever `ServerContext.responseCoding` is.
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

    /// Makes a message that may be large while holding a permit (`ServerConfiguration.permitsPerConnection`), and writes it.
    /// Without permits, each call of a connection could hold such a message while the client reads none of them.
    ///
    /// - Parameter make: returns nil if there is nothing to send.
    package func write(withPermit make: () async throws -> ByteBuffer?) async throws {
        if let message = try await makeWithPermit(make) { try await write(message) }
    }

    private func makeWithPermit(_ make: () async throws -> ByteBuffer?) async throws -> ByteBuffer? {
        let call = call
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Void, any Error>) in
                if Task.isCancelled { return continuation.resume(throwing: CancellationError()) }
                if call.eventLoop.inEventLoop { return call.value.waitForPermit(continuation) }
                call.eventLoop.execute { call.value.waitForPermit(continuation) }
                // See `waitForDrain`.
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
                // A cancellation since the first check may have reached the loop before the continuation did. A later
                // one reaches it afterwards.
                if Task.isCancelled { call.eventLoop.execute { call.value.cancelWriter() } }
            }
        } onCancel: {
            call.eventLoop.execute { call.value.cancelWriter() }
        }
    }
}

/// The messages of a streaming request. One task reads, once. Flow control holds the client back while messages are not
/// read.
package struct RequestStream: AsyncSequence, Sendable {
    package typealias Element = ByteBuffer

    let call: NIOLoopBound<ServerCall>

    package func makeAsyncIterator() -> Iterator {
        Iterator(call: call)
    }

    package struct Iterator: AsyncIteratorProtocol {
        let call: NIOLoopBound<ServerCall>

        /// The next message; nil when the client has half-closed.
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
                        // See `waitForDrain`.
                        if Task.isCancelled { call.eventLoop.execute { call.value.cancelPull() } }
                    }
                }
            } onCancel: {
                call.eventLoop.execute { call.value.cancelPull() }
            }
        }
    }
}
