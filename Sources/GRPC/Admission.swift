/// Decides who may make which call. Asked on an event loop, which it must not block, for each header list that differs
/// from the one before on its connection, and for each connection.
package protocol Admission: Sendable {
    /// Whether those who were let in may have to go: if not, they are not looked at again.
    var callersMayEnd: Bool { get }

    func admit(_ request: AdmissionRequest) -> AdmissionAnswer
}

/// What is known of a call before any of its handler's code runs.
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

/// Who is at the other end of a connection.
package struct Peer: Sendable {
    /// As host:port; empty: not known.
    package var address: String
    /// Where it comes from, as far as one client could choose it: an address without its port, or a network of IPv6 of 64
    /// bits. Empty: not known.
    package var source: String
    /// The client's certificate in DER form, verified by the TLS library; nil: it has shown none.
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
    /// It takes more to know. The call waits meanwhile, for its deadline at most; an `AdmissionRefusal` that is thrown
    /// refuses it.
    case later(@Sendable () async throws -> any Admitted)
}

package struct AdmissionRefusal: Error {
    package var status: Status
    /// A word of a small fixed set (`Refusal.reason`).
    package var reason: String
    /// As its credential names the caller; empty: not known.
    package var caller: String

    package init(_ status: Status, reason: String, caller: String = "") {
        self.status = status
        self.reason = reason
        self.caller = caller
    }
}

/// Somebody who may call. While a call lasts it is asked every other second whether that still holds.
package protocol Admitted: AnyObject, Sendable {
    var isValid: Bool { get }
    /// As its credential names it; empty: it has shown none.
    var name: String { get }
    /// The method is for those without credentials, where others need them: few such calls may be open at once, and they
    /// do not make their connection an admitted one (`ConnectionPlaces`).
    var isAnonymous: Bool { get }
}
