/// Decides who may make which call. It is called on an event loop, which it must not block, for the first header list of
/// each connection and for each that differs from the one before.
package protocol Admission: Sendable {
    /// Whether admitted callers may lose their admission. If not, `Admitted.isValid` is not checked again.
    var callersMayEnd: Bool { get }

    func admit(_ request: AdmissionRequest) -> AdmissionAnswer
}

/// A call as its headers and connection describe it.
package struct AdmissionRequest: Sendable {
    /// "/package.Service/Method"
    package var path: String
    /// The value of the field `authorization`.
    package var authorization: String?
    package var peer: Peer

    package init(path: String, authorization: String?, peer: Peer) {
        self.path = path
        self.authorization = authorization
        self.peer = peer
    }
}

/// The client at the other end of a connection.
package struct Peer: Sendable {
    /// The address as host:port; empty: not known.
    package var address: String
    /// The address without its port, or its IPv6 network of 64 bits, within which one client could choose its address.
    /// Empty: not known.
    package var source: String
    /// The client's certificate in DER form, verified by the TLS library; nil: it presented none.
    package var certificate: [UInt8]?

    package init(address: String, source: String, certificate: [UInt8]?) {
        self.address = address
        self.source = source
        self.certificate = certificate
    }
}

package enum AdmissionAnswer: Sendable {
    case admitted(any Admitted)
    case refused(AdmissionRefusal)
    /// The decision takes time. The call waits meanwhile, for its deadline at most. A thrown `AdmissionRefusal` refuses it.
    case later(@Sendable () async throws -> any Admitted)
}

package struct AdmissionRefusal: Error {
    package var status: Status
    /// One of a small fixed set of words (`Refusal.reason`).
    package var reason: String
    /// The caller's name as in its credential; empty: not known.
    package var caller: String

    package init(_ status: Status, reason: String, caller: String = "") {
        self.status = status
        self.reason = reason
        self.caller = caller
    }
}

/// A caller that was admitted. While its calls last, `isValid` is checked every two seconds.
package protocol Admitted: AnyObject, Sendable {
    var isValid: Bool { get }
    /// The name as in the credential; empty: the caller has shown none.
    var name: String { get }
    /// The caller has no credentials, and calls a method that needs none on a server where others do. Few such calls may be
    /// open at once, and they do not make their connection an admitted one (`ConnectionLimiter`).
    var isAnonymous: Bool { get }
}
