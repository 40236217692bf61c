internal import HTTP2
internal import Logging

/// How a call begins: whether the connection has room for it, what it asks for, and who asks.
extension ServerConnection {
    func begin(_ stream: HTTP2.Stream, _ block: HeaderBlock, endStream: Bool) {
        guard takesCalls else { return }
        hasBegunCall = true
        // Unary answers do not wait for room as written streams do: a client that reads none of them gets no more.
        // It may try again, for a refused call has not begun.
        guard session.openStreams <= configuration.streamsPerConnectionMax else {
            return session.reset(stream, .refusedStream)
        }
        guard runningHandlers < configuration.streamsPerConnectionMax,
            session.queuedBytes < 4 * configuration.outboundBytesPerConnection
        else {
            // The client cannot know. One that it has reset itself is not reset again.
            if !stream.isClosed { resetsForgiven += 1 }
            return session.reset(stream, .refusedStream)
        }
        let head: RequestHead
        if let lastHead, lastHead.block == block {
            head = lastHead
        } else {
            head = RequestHead(block, router: router, messageBytesMax: configuration.messageBytesMax)
            lastHead = head
            lastAdmitted = nil
        }
        switch head.verdict {
        case .call(let method, let messageBytesMax):
            let answer = admission(for: head, method.path)
            var admitted: (any Admitted)?
            switch answer {
            case .admitted(let somebody): admitted = somebody
            case .refused(let status): return refuse(stream, status)
            case .later, nil: break
            }
            let call = ServerCall(
                stream: stream, connection: self, method: method, head: head,
                messageBytesMax: messageBytesMax, admitted: admitted)
            stream.owner = call
            if case .later(let work) = answer { call.start(after: work) } else { call.start() }
            if endStream { call.receiveEnd() }
        case .refuse(let status):
            refuse(stream, status)
        case .refuseHTTP(let status):
            var fields = HeaderFields([":status": status])
            // RFC 9110 section 15.5.6.
            if status == "405" { fields.append("allow", "POST") }
            refuse(stream, fields)
        }
    }

    /// Nil: everybody may call.
    func admission(for head: RequestHead, _ path: String) -> AdmissionAnswer? {
        guard let admission = configuration.admission else { return nil }
        if let lastAdmitted, lastAdmitted.isValid { return .admitted(lastAdmitted) }
        let answer = admission.admit(
            AdmissionRequest(path: path, authorization: head.authorization, peer: peer))
        if case .admitted(let somebody) = answer { lastAdmitted = somebody }
        return answer
    }

    func refuse(_ stream: HTTP2.Stream, _ status: Status) {
        var fields = Self.responseFields
        fields.append("grpc-accept-encoding", RequestHead.acceptedEncodings)
        status.append(to: &fields)
        refuse(stream, fields)
    }

    func refuse(_ stream: HTTP2.Stream, _ fields: HeaderFields) {
        session.resetAfterEnd(stream)
        do {
            try session.respond(stream, .fields(fields), endStream: true)
        } catch {
            session.reset(stream, .internalError)
        }
    }

    func log(_ error: any Error, of path: String) {
        logger.debug("handler failed", metadata: ["method": "\(path)", "error": "\(error)"])
    }
}
