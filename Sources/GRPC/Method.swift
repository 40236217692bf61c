package import NIOCore
internal import Support

/// The handler of a method that takes one message and returns one. It is called on the event loop of the call's
/// connection and must not block it. What it cannot answer at once it answers later by `Reply`, or by a task.
///
/// A thrown `Status` is sent to the client, `CancellationError` is sent as CANCELLED, and for other errors see
/// `ServerConfiguration.errorMapper`. This holds for all handlers and tasks.
package typealias UnaryHandler = @Sendable (ByteBuffer, ServerContext, Reply) throws -> UnaryStep

package enum UnaryStep: Sendable {
    case message(ByteBuffer)
    /// `Reply` will send the response. The handler does not learn that the call has ended; a response that comes after
    /// that is dropped.
    case later
    /// A task on the connection's event loop makes the response. It is cancelled when the deadline passes, the client
    /// cancels or goes away, or the server's shutdown has waited long enough.
    case work(@Sendable () async throws -> ByteBuffer)
}

/// Sends the response of a call whose handler has returned `UnaryStep.later`.
package struct Reply: Sendable {
    let call: NIOLoopBound<ServerCall>
    let executor: LoopExecutor

    /// To be called once, on any thread. `answer` is made on the call's event loop, which it must not block.
    package func send(_ answer: @escaping @Sendable () throws -> ByteBuffer) {
        executor.reply(to: call, answer)
    }
}

/// The handler of a method that takes one message and returns any number. It is called on the event loop of the call's
/// connection and must not block it. The writer is for the task of `StreamStep.work`.
package typealias ServerStreamHandler =
    @Sendable (ByteBuffer, ServerContext, ResponseWriter) throws -> StreamStep

package enum StreamStep: Sendable {
    /// The response is pulled from the source: a call that is idle for hours needs no task.
    case source(any ResponseSource)
    /// A task writes the response or its beginning, and returns the source of the rest; nil ends the call with OK. The
    /// task is cancelled as that of `UnaryStep.work`.
    case work(@Sendable () async throws -> (any ResponseSource)?)
}

/// The handler of a method with any number of messages in both directions. It is called when the headers of the call were
/// received, on the event loop of its connection, and must not block it. The stream and the writer are for the task of
/// `BidirectionalStep.work`.
package typealias BidirectionalHandler =
    @Sendable (ServerContext, RequestStream, ResponseWriter) throws -> BidirectionalStep

package enum BidirectionalStep: Sendable {
    /// Requests are given to the exchange, and responses are pulled from it, without a task.
    case exchange(any MessageExchange)
    /// A task reads and writes, as that of `StreamStep.work`. A source that it returns reads no more requests.
    case work(@Sendable () async throws -> (any ResponseSource)?)
}

/// One method of a service and its handler. It is a class because every call refers to it.
package final class Method: Sendable {
    package enum Handler: Sendable {
        /// - Parameter takesPermit: the handler builds a response that may be large, so it starts only with one of the
        ///   connection's permits (`ServerConfiguration.permitsPerConnection`).
        case unary(takesPermit: Bool = false, UnaryHandler)
        case serverStream(ServerStreamHandler)
        case bidirectional(BidirectionalHandler)
    }

    /// "/package.Service/Method"
    package let path: String
    let requestBytesMax: Int?
    let handler: Handler
    /// Calls of the method may be open for as long as their clients like.
    var isStreaming: Bool {
        switch handler {
        case .unary: false
        case .serverStream, .bidirectional: true
        }
    }

    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package init(_ path: String, maxRequestBytes: Int? = nil, _ handler: Handler) {
        self.path = path
        self.requestBytesMax = maxRequestBytes
        self.handler = handler
    }
}

// Handlers as `async` closures, each with a task for every call.
extension Method {
    /// Takes one message, returns one. It starts with a permit.
    ///
    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package static func unary(
        _ path: String, maxRequestBytes: Int? = nil,
        _ handler: @escaping @Sendable (ByteBuffer, ServerContext) async throws -> ByteBuffer
    ) -> Method {
        Method(
            path, maxRequestBytes: maxRequestBytes,
            .unary(takesPermit: true) { message, context, _ in
                .work { try await handler(message, context) }
            })
    }

    /// Takes one message, writes any number. The call ends with status OK when it returns.
    ///
    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package static func serverStreaming(
        _ path: String, maxRequestBytes: Int? = nil,
        _ handler: @escaping @Sendable (ByteBuffer, ServerContext, ResponseWriter) async throws -> Void
    ) -> Method {
        Method(
            path, maxRequestBytes: maxRequestBytes,
            .serverStream { message, context, writer in
                .work {
                    try await handler(message, context, writer)
                    return nil
                }
            })
    }

    /// Reads and writes any number of messages. The call ends with status OK when it returns.
    ///
    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package static func bidirectional(
        _ path: String, maxRequestBytes: Int? = nil,
        _ handler: @escaping @Sendable (RequestStream, ServerContext, ResponseWriter) async throws -> Void
    ) -> Method {
        Method(
            path, maxRequestBytes: maxRequestBytes,
            .bidirectional { context, requests, writer in
                .work {
                    try await handler(requests, context, writer)
                    return nil
                }
            })
    }
}

/// Finds the method of a path.
struct Router: Sendable {
    private let methods: [ExactText: Method]
    private let pathBytesMax: Int

    init(_ methods: [Method]) {
        self.methods = Dictionary(methods.map { (ExactText($0.path), $0) }) { first, _ in
            preconditionFailure("two methods with the path \(first.path)")
        }
        pathBytesMax = methods.lazy.map(\.path.utf8.count).max() ?? 0
    }

    subscript(path: ArraySlice<UInt8>) -> Method? {
        path.count <= pathBytesMax ? methods[ExactText(decoding: path)] : nil
    }
}
