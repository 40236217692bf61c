package import MessageCompression
internal import Synchronization

/// What a handler can know of its call, and say besides its messages.
package final class ServerContext: Sendable {
    /// "/package.Service/Method"
    package var path: String { method.path }

    let method: Method
    private let head: RequestHead
    private let lockedState = Mutex(State())

    struct State {
        var admitted: (any Admitted)?
        var initial = Metadata()
        var trailing = Metadata()
        var coding: Coding?
        var requestWasCompressed = false
    }

    /// - Parameter admitted: nil also while the call waits for its admission.
    init(method: Method, head: RequestHead, admitted: (any Admitted)?) {
        self.method = method
        self.head = head
        lockedState.withLock { $0.admitted = admitted }
        // As the client does it, so it wants it done: its own choice of what CPU and network cost it.
        if let coding = head.coding, accepts(coding) { lockedState.withLock { $0.coding = coding } }
    }

    /// The request's custom metadata. Built at each access: keep it in a constant.
    package var metadata: Metadata { Metadata(head.block) }

    /// Sent with the response headers, which go out with the first message. No effect after that.
    // used by Tests/InteropServer
    package func setInitialMetadata(_ metadata: Metadata) {
        lockedState.withLock { $0.initial = metadata }
    }

    /// Sent with the status.
    // used by Tests/InteropServer
    package func setTrailingMetadata(_ metadata: Metadata) {
        lockedState.withLock { $0.trailing = metadata }
    }

    /// How the messages of the answer are compressed; nil: not at all. At first as those of the request, if the client
    /// takes that. To be set before the first message; what the client does not take is not set.
    package var responseCoding: Coding? {
        get { lockedState.withLock { $0.coding } }
        set {
            if let newValue, !accepts(newValue) { return }
            lockedState.withLock { $0.coding = newValue }
        }
    }

    /// Whether the client takes answers that are compressed so (`grpc-accept-encoding`).
    package func accepts(_ coding: Coding) -> Bool { head.acceptedCodings.contains(coding) }

    /// Whether the message that the handler got last came compressed.
    package var requestWasCompressed: Bool { lockedState.withLock { $0.requestWasCompressed } }

    var mayBeCompressed: Bool { head.coding != nil }

    func setRequestWasCompressed(_ wasCompressed: Bool) {
        lockedState.withLock { $0.requestWasCompressed = wasCompressed }
    }

    /// Who calls, as the server's admission has it; nil where there is none.
    package var admitted: (any Admitted)? { lockedState.withLock { $0.admitted } }

    func setAdmitted(_ admitted: any Admitted) {
        lockedState.withLock { $0.admitted = admitted }
    }

    var state: State { lockedState.withLock { $0 } }
}
