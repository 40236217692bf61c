package import NIOCore

/// Observes every call of a server, for metrics, traces and access logs.
///
/// Both methods are called on the event loop of the call's connection and must not block it. The interceptors of
/// `ServerConfiguration.interceptors` are called in their order when a call starts, and in reverse order when it ends.
/// Requests that are not gRPC, and streams refused with REFUSED_STREAM, are not calls.
package protocol ServerInterceptor: Sendable {
    /// The headers of a call were received; none of its handler's code has run. Calls that are refused come here too.
    func callStarted(_ call: CallRecord)
    /// The call has ended: it was answered or refused, its client has reset it, or its connection was lost. Called once
    /// for each call that has started.
    ///
    /// - Parameter status: what was sent to the client, or CANCELLED if nothing could be sent.
    func callEnded(_ call: CallRecord, _ status: Status)
}

/// One call as interceptors see it. The same object is passed at its start and at its end.
///
/// Not Sendable: it belongs to the event loop of the call's connection.
package final class CallRecord {
    /// "/package.Service/Method"; nil: the server has no such method.
    package let method: String?
    package let peer: Peer
    package let startedAt: NIODeadline
    /// The caller, once admitted; nil: refused, or the server requires no admission.
    package internal(set) var admitted: (any Admitted)?
    /// Messages that the handler was given, and their bytes, decompressed and without framing.
    package private(set) var requestMessages = 0
    package private(set) var requestBytes = 0
    /// Messages that were queued for the client, and their bytes before compression and without framing.
    package private(set) var responseMessages = 0
    package private(set) var responseBytes = 0

    init(method: String?, peer: Peer, admitted: (any Admitted)?, startedAt: NIODeadline) {
        self.method = method
        self.peer = peer
        self.admitted = admitted
        self.startedAt = startedAt
    }

    func requestTaken(_ message: ByteBuffer) {
        requestMessages += 1
        requestBytes += message.readableBytes
    }

    func responseQueued(_ message: ByteBuffer) {
        responseMessages += 1
        responseBytes += message.readableBytes
    }
}

extension ServerConnection {
    /// - Returns: nil when there are no interceptors, and then costs no allocation.
    func startRecord(of method: Method?, admitted: (any Admitted)? = nil) -> CallRecord? {
        guard !configuration.interceptors.isEmpty else { return nil }
        let record = CallRecord(
            method: method?.path, peer: peer, admitted: admitted, startedAt: .now())
        for interceptor in configuration.interceptors { interceptor.callStarted(record) }
        return record
    }

    func end(_ record: CallRecord?, _ status: Status) {
        guard let record else { return }
        for interceptor in configuration.interceptors.reversed() { interceptor.callEnded(record, status) }
    }
}
