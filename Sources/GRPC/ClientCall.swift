package import NIOCore

/// A call with streams in both directions. It is cancelled when the last reference to it and its responses is gone.
package struct ClientCall: Sendable {
    private let owner: Owner

    init(stream: NIOLoopBound<ClientStream>) {
        owner = Owner(stream: stream)
    }

    /// Cancels the call with its last reference.
    final class Owner: Sendable {
        let stream: NIOLoopBound<ClientStream>

        init(stream: NIOLoopBound<ClientStream>) {
            self.stream = stream
        }

        deinit {
            cancel()
        }

        func cancel() {
            let stream = stream
            stream.eventLoop.execute { stream.value.fail(Status(.cancelled, "cancelled by the client")) }
        }
    }

    package var responses: ResponseStream { ResponseStream(owner: owner) }

    /// Queues a message, and waits while the server is too far behind.
    ///
    /// - Throws: the call's `Status` when it is over.
    package func write(_ message: ByteBuffer) async throws {
        let stream = owner.stream
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Void, any Error>) in
                if Task.isCancelled { return continuation.resume(throwing: CancellationError()) }
                stream.eventLoop.execute { stream.value.write(message, continuation) }
            }
        } onCancel: {
            owner.cancel()
        }
    }

    /// Half-closes the stream: no more messages will be written.
    package func finish() async throws {
        let stream = owner.stream
        try await stream.eventLoop.submit { stream.value.finish() }.get()
    }

    package func cancel() {
        owner.cancel()
    }
}

/// The messages of a response. One task reads, once. Flow control holds the server back while messages are not read.
package struct ResponseStream: AsyncSequence, Sendable {
    package typealias Element = ByteBuffer

    let owner: ClientCall.Owner

    package func makeAsyncIterator() -> Iterator {
        Iterator(owner: owner)
    }

    /// Cancels the call, as does releasing the last reference to it.
    package func cancel() {
        owner.cancel()
    }

    package struct Iterator: AsyncIteratorProtocol {
        let owner: ClientCall.Owner

        /// The next message; nil when the call has ended with OK.
        ///
        /// - Throws: the call's `Status`, or `CancellationError` when the task is cancelled, which cancels the call.
        package mutating func next() async throws -> ByteBuffer? {
            let owner = owner
            let stream = owner.stream
            return try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { continuation in
                    if Task.isCancelled { return continuation.resume(throwing: CancellationError()) }
                    stream.eventLoop.execute { stream.value.pull(continuation) }
                }
            } onCancel: {
                owner.cancel()
            }
        }
    }
}
