package import NIOCore

/// A call with streams both ways. It is cancelled when neither it nor its responses are referred to any more.
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

    /// Half-closes: no more messages will be written.
    package func finish() async throws {
        let stream = owner.stream
        try await stream.eventLoop.submit { stream.value.finish() }.get()
    }

    package func cancel() {
        owner.cancel()
    }
}

/// The messages of an answer. One task reads, once. The server is held back by HTTP/2's window while messages are
/// not read.
package struct ResponseStream: AsyncSequence, Sendable {
    package typealias Element = ByteBuffer

    let owner: ClientCall.Owner

    package func makeAsyncIterator() -> Iterator {
        Iterator(owner: owner)
    }

    /// Cancels the call; so does letting go of it.
    package func cancel() {
        owner.cancel()
    }

    package struct Iterator: AsyncIteratorProtocol {
        let owner: ClientCall.Owner

        /// Nil when the call has ended with OK.
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
