/// A call or a connection that the server has refused, or ended for what its client did.
package struct Refusal: Sendable, Hashable {
    package enum Kind: String, Sendable, CaseIterable {
        case call
        case connection
    }

    package var kind: Kind
    /// A word of a small fixed set: none is made of what a client has sent.
    package var reason: String
    /// "/package.Service/Method" of a method that the server has; nil: the call names none of them, or it is a connection.
    package var method: String?
    /// The address, or the network of IPv6 (64 bits); empty: not known.
    package var source: String
    /// The caller as its credential names it; empty: not known.
    package var caller: String

    package init(kind: Kind, reason: String, method: String? = nil, source: String, caller: String = "") {
        self.kind = kind
        self.reason = reason
        self.method = method
        self.source = source
        self.caller = caller
    }
}

/// Is told of every refusal, on the event loop of the connection, which it must not block.
package protocol RefusalObserver: Sendable {
    func refused(_ refusal: Refusal)
}

/// Why a connection is not accepted, or closed. The words of `Refusal.reason`.
enum ConnectionRefusal: String {
    /// Its address has as many as it may have.
    case tooManyOfAddress
    /// No call on it was let in, and another connection came when there was no other place.
    case placeNeeded
    case handshakeTimedOut
    case handshakeFailed
    /// It does not keep to HTTP/2, or resets too many calls.
    case protocolError
    case tooManyPings
    case tooManyControlFrames
    case tooManyFaults
    /// It does not read what it is sent.
    case readsNothing

    init(_ excess: FloodDetector.Excess) {
        switch excess {
        case .pings: self = .tooManyPings
        case .frames: self = .tooManyControlFrames
        case .faults: self = .tooManyFaults
        }
    }
}

extension Status.Code {
    /// The word of `Refusal.reason` for a call that ends so; nil: it is not refused.
    var refusalReason: String? {
        switch self {
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
