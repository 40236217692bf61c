internal import Synchronization

/// What a handler can know of its call, and say besides its messages.
package final class ServerContext: Sendable {
    /// "/package.Service/Method"
    package var path: String { method.path }
    /// When the client stops waiting. The task is cancelled then.
    package let deadline: ContinuousClock.Instant?

    let method: Method
    private let head: RequestHead
    private let response = Mutex(ResponseMetadata())

    struct ResponseMetadata {
        var initial = Metadata()
        var trailing = Metadata()
    }

    init(method: Method, head: RequestHead, deadline: ContinuousClock.Instant?) {
        self.method = method
        self.head = head
        self.deadline = deadline
    }

    /// The request's custom metadata. Built at each access: keep it in a constant.
    package var metadata: Metadata { Metadata(head.block) }

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
