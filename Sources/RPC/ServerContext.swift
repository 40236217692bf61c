internal import HTTP2
package import NIOCore
internal import Synchronization

/// What a handler can know of the connection its call came by.
package struct ConnectionInfo: Sendable {
    /// Unique among the connections of this server.
    package let id: UInt64
    package let peerAddress: SocketAddress?
    package let isEncrypted: Bool
}

/// What a handler can know of its call, and say besides its messages.
package final class ServerContext: Sendable {
    /// "/package.Service/Method"
    package let path: String
    /// When the client stops waiting. The task is cancelled then.
    package let deadline: ContinuousClock.Instant?
    package let connection: ConnectionInfo

    private let headers: HeaderBlock
    private let response = Mutex(ResponseMetadata())

    struct ResponseMetadata {
        var initial = Metadata()
        var trailing = Metadata()
    }

    init(path: String, deadline: ContinuousClock.Instant?, connection: ConnectionInfo, headers: HeaderBlock) {
        self.path = path
        self.deadline = deadline
        self.connection = connection
        self.headers = headers
    }

    /// The request's custom metadata. Built at each access: keep it in a constant.
    package var metadata: Metadata { Metadata(headers) }

    /// The first text value of one key of the request's metadata.
    package func value(for key: String) -> String? {
        headers.value(for: key)
    }

    /// Sent with the response headers, which go out with the first message. No effect after that.
    package func setInitialMetadata(_ metadata: Metadata) {
        response.withLock { $0.initial = metadata }
    }

    /// Sent with the status.
    package func setTrailingMetadata(_ metadata: Metadata) {
        response.withLock { $0.trailing = metadata }
    }

    var responseMetadata: ResponseMetadata {
        response.withLock { $0 }
    }
}
