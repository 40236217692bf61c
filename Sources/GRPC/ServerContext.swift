package import MessageCompression
internal import Synchronization

/// The call as its handler sees it: request metadata and caller, and what the response has besides messages.
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
        // A client that compresses its requests gets compressed responses: it has weighed CPU against network.
        if let coding = head.coding, accepts(coding) { lockedState.withLock { $0.coding = coding } }
    }

    /// The request's custom metadata. Built at each access: keep it in a constant.
    package var metadata: Metadata { Metadata(head.block) }

    /// Sets the metadata of the response headers, which are sent with the first message. It has no effect after that.
    // used by Tests/InteropServer
    package func setInitialMetadata(_ metadata: Metadata) {
        lockedState.withLock { $0.initial = metadata }
    }

    /// Sets the metadata that is sent with the status.
    // used by Tests/InteropServer
    package func setTrailingMetadata(_ metadata: Metadata) {
        lockedState.withLock { $0.trailing = metadata }
    }

    /// The encoding of compressed messages of the response; nil: none is compressed. It is that of the request unless set,
    /// if the client accepts it. To be set before the first message; an encoding that the client does not accept is ignored.
    package var responseCoding: Coding? {
        get { lockedState.withLock { $0.coding } }
        set {
            if let newValue, !accepts(newValue) { return }
            lockedState.withLock { $0.coding = newValue }
        }
    }

    /// Whether the client accepts responses in this encoding (`grpc-accept-encoding`).
    package func accepts(_ coding: Coding) -> Bool { head.acceptedCodings.contains(coding) }

    /// Whether the last message that the handler received was compressed.
    package var requestWasCompressed: Bool { lockedState.withLock { $0.requestWasCompressed } }

    var mayBeCompressed: Bool { head.coding != nil }

    func setRequestWasCompressed(_ wasCompressed: Bool) {
        lockedState.withLock { $0.requestWasCompressed = wasCompressed }
    }

    /// The caller, as the server's admission has identified it; nil where there is no admission.
    package var admitted: (any Admitted)? { lockedState.withLock { $0.admitted } }

    func setAdmitted(_ admitted: any Admitted) {
        lockedState.withLock { $0.admitted = admitted }
    }

    var state: State { lockedState.withLock { $0 } }
}
