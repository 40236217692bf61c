package import NIOCore
internal import Support

/// Takes one message, returns one.
///
/// Handlers run on the event loop of the call's connection: they must not block it. Their task is cancelled when
/// the deadline passes, the client cancels or goes away, or the server's shutdown has waited long enough. A
/// thrown `Status` is the answer; `CancellationError` answers CANCELLED; for other errors see
/// `ServerConfiguration.errorMapper`.
package typealias UnaryHandler = @Sendable (ByteBuffer, ServerContext) async throws -> ByteBuffer
/// The same without a task, for calls that come by the ten thousand a second: a task for each would cost as much as the
/// rest of it. It is called on the event loop, which it must not block; what takes time goes into `UnaryStep.work`, or is
/// answered later. It is not told when the call is over; an answer that comes then is dropped.
package typealias ReplyingHandler = @Sendable (ByteBuffer, ServerContext, Reply) throws -> UnaryStep

package enum UnaryStep: Sendable {
    case message(ByteBuffer)
    /// `Reply` answers, once.
    case later
    /// A task answers. Cancelled when the call is over.
    case work(@Sendable () async throws -> ByteBuffer)
}

/// Answers a call that its handler has left open.
package struct Reply: Sendable {
    let call: NIOLoopBound<ServerCall>
    let executor: LoopExecutor

    /// To be called once, on any thread. `answer` is made on the call's event loop, which it must not block.
    package func send(_ answer: @escaping @Sendable () throws -> ByteBuffer) {
        executor.reply(to: call, answer)
    }
}

/// Takes one message, writes any number. The call ends with status OK when it returns.
package typealias ServerStreamingHandler =
    @Sendable (ByteBuffer, ServerContext, ResponseWriter) async throws -> Void
/// Takes one message, writes those with which the answer begins, and returns where the others come from.
package typealias FollowingHandler =
    @Sendable (ByteBuffer, ServerContext, ResponseWriter) async throws -> any ResponseSource
/// Reads and writes any number of messages. The call ends with status OK when it returns.
package typealias BidirectionalHandler =
    @Sendable (RequestStream, ServerContext, ResponseWriter) async throws -> Void

/// One method of a service and what serves it. A class: every call holds it.
package final class Method: Sendable {
    enum Handler: Sendable {
        case unary(UnaryHandler)
        case replying(ReplyingHandler)
        case serverStreaming(ServerStreamingHandler)
        case following(FollowingHandler)
        case bidirectional(BidirectionalHandler)
    }

    /// "/package.Service/Method"
    package let path: String
    let requestBytesMax: Int?
    let handler: Handler
    /// Its calls may be open for as long as their clients like.
    var isStreaming: Bool {
        switch handler {
        case .unary, .replying: false
        case .serverStreaming, .following, .bidirectional: true
        }
    }

    private init(path: String, requestBytesMax: Int?, handler: Handler) {
        self.path = path
        self.requestBytesMax = requestBytesMax
        self.handler = handler
    }

    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package static func unary(
        _ path: String, maxRequestBytes: Int? = nil, _ handler: @escaping UnaryHandler
    ) -> Method {
        Method(path: path, requestBytesMax: maxRequestBytes, handler: .unary(handler))
    }

    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package static func replying(
        _ path: String, maxRequestBytes: Int? = nil, _ handler: @escaping ReplyingHandler
    ) -> Method {
        Method(path: path, requestBytesMax: maxRequestBytes, handler: .replying(handler))
    }

    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package static func serverStreaming(
        _ path: String, maxRequestBytes: Int? = nil, _ handler: @escaping ServerStreamingHandler
    ) -> Method {
        Method(path: path, requestBytesMax: maxRequestBytes, handler: .serverStreaming(handler))
    }

    /// A server-streaming method whose calls may be idle for long.
    ///
    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package static func following(
        _ path: String, maxRequestBytes: Int? = nil, _ handler: @escaping FollowingHandler
    ) -> Method {
        Method(path: path, requestBytesMax: maxRequestBytes, handler: .following(handler))
    }

    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package static func bidirectional(
        _ path: String, maxRequestBytes: Int? = nil, _ handler: @escaping BidirectionalHandler
    ) -> Method {
        Method(path: path, requestBytesMax: maxRequestBytes, handler: .bidirectional(handler))
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
