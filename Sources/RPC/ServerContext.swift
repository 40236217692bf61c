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

/// Shared by the calls of a connection.
final class ConnectionScope: Sendable {
    let info: ConnectionInfo

    init(_ info: ConnectionInfo) {
        self.info = info
    }
}

/// What a handler can know of its call, and say besides its messages.
package final class ServerContext: Sendable {
    /// "/package.Service/Method"
    package var path: String { method.path }
    /// When the client stops waiting. The task is cancelled then.
    package let deadline: ContinuousClock.Instant?
    package var connection: ConnectionInfo { scope.info }

    let method: Method
    private let head: RequestHead
    private let scope: ConnectionScope
    private let response = Mutex(ResponseMetadata())

    struct ResponseMetadata {
        var initial = Metadata()
        var trailing = Metadata()
    }

    init(method: Method, head: RequestHead, deadline: ContinuousClock.Instant?, scope: ConnectionScope) {
        self.method = method
        self.head = head
        self.deadline = deadline
        self.scope = scope
    }

    /// The request's custom metadata. Built at each access: keep it in a constant.
    package var metadata: Metadata { Metadata(head.block) }

    /// The first text value of one key of the request's metadata.
    package func value(for key: String) -> String? {
        head.block.value(for: key)
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
