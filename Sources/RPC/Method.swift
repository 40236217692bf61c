package import NIOCore

/// Takes one message, returns one.
///
/// Handlers run on the event loop of the call's connection: they must not block it. Their task is cancelled when
/// the deadline passes, the client cancels or goes away, or the server's shutdown has waited long enough. A
/// thrown `Status` is the answer; `CancellationError` answers CANCELLED; for other errors see
/// `ServerConfiguration.errorMapper`.
package typealias UnaryHandler = @Sendable (ByteBuffer, ServerContext) async throws -> ByteBuffer
/// Takes one message, writes any number. The call ends with status OK when it returns.
package typealias ServerStreamingHandler =
    @Sendable (ByteBuffer, ServerContext, ResponseWriter) async throws -> Void
/// Takes one message, writes those with which the answer begins, and returns where the others come from.
package typealias FollowingHandler =
    @Sendable (ByteBuffer, ServerContext, ResponseWriter) async throws -> any ResponseSource
/// Reads and writes any number of messages. The call ends with status OK when it returns.
package typealias BidirectionalHandler =
    @Sendable (RequestStream, ServerContext, ResponseWriter) async throws -> Void

/// One method of a service and what serves it.
package struct Method: Sendable {
    enum Handler: Sendable {
        case unary(UnaryHandler)
        case serverStreaming(ServerStreamingHandler)
        case following(FollowingHandler)
        case bidirectional(BidirectionalHandler)
    }

    /// "/package.Service/Method"
    package let path: String
    let requestBytesMax: Int?
    let handler: Handler

    /// - Parameter maxRequestBytes: The largest message accepted, instead of the server's `messageBytesMax`.
    package static func unary(
        _ path: String, maxRequestBytes: Int? = nil, _ handler: @escaping UnaryHandler
    ) -> Method {
        Method(path: path, requestBytesMax: maxRequestBytes, handler: .unary(handler))
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
    private let methods: [String: Method]

    init(_ methods: [Method]) {
        self.methods = Dictionary(methods.map { ($0.path, $0) }) { first, _ in
            preconditionFailure("two methods with the path \(first.path)")
        }
    }

    subscript(path: String) -> Method? { methods[path] }
}
