/// A call or a connection that the server has refused, or has ended because of what its client did.
package struct Refusal: Sendable, Hashable {
    package enum Kind: String, Sendable, CaseIterable {
        case call
        case connection
    }

    package var kind: Kind
    /// One of a small fixed set of words; it never contains what a client has sent.
    package var reason: String
    /// "/package.Service/Method"; nil: the server has no such method, or it is a connection.
    package var method: String?
    /// The client's address, or its IPv6 network of 64 bits; empty: not known.
    package var source: String
    /// The caller's name as in its credential; empty: not known.
    package var caller: String

    package init(kind: Kind, reason: String, method: String? = nil, source: String, caller: String = "") {
        self.kind = kind
        self.reason = reason
        self.method = method
        self.source = source
        self.caller = caller
    }
}

/// Receives every refusal, on the event loop of the connection, which it must not block.
package protocol RefusalObserver: Sendable {
    func refused(_ refusal: Refusal)
}

/// Why a connection was not accepted, or was closed: the words of `Refusal.reason`.
enum ConnectionRefusal: String {
    /// The limit of connections from its address is reached.
    case tooManyOfAddress
    /// It had no admitted call and was closed to make room for another connection.
    case evicted
    case handshakeTimedOut
    case handshakeFailed
    /// The client broke HTTP/2, or has reset too many calls.
    case protocolError
    case tooManyPings
    case tooManyControlFrames
    case tooManyFaults
    /// The client does not read what it is sent.
    case readsNothing

    init(_ excess: FloodDetector.Excess) {
        switch excess {
        case .pings: self = .tooManyPings
        case .frames: self = .tooManyControlFrames
        case .faults: self = .tooManyFaults
        }
    }
}

extension Status {
    /// The word of `Refusal.reason` for a call that ends with this status; nil: such a call does not count as refused.
    var refusalReason: String? {
        switch code {
        case .unavailable where reason?.word == .serverBusy: "serverBusy"
        case .invalidArgument: "invalidArgument"
        case .permissionDenied: "permissionDenied"
        case .resourceExhausted: "resourceExhausted"
        case .unimplemented: "unimplemented"
        case .unauthenticated: "unauthenticated"
        case .ok, .cancelled, .unknown, .deadlineExceeded, .notFound, .alreadyExists, .failedPrecondition,
            .aborted, .outOfRange, .internalError, .unavailable, .dataLoss:
            nil
        }
    }
}
