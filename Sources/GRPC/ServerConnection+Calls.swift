internal import HTTP2
internal import Logging

/// The beginning of a call: whether the connection has room for it, which method it names, and whether its caller is
/// admitted.
extension ServerConnection {
    func begin(_ stream: HTTP2.Stream, _ block: HeaderBlock, endStream: Bool) {
        guard machine.acceptsCalls else { return }
        switch resources.admitCall(openStreams: session.openStreams, queuedBytes: session.queuedBytes) {
        case .admitted: break
        case .refused(let isFault):
            // A stream that the client has reset is not reset again, so that there is nothing to forgive.
            if !isFault, !stream.isClosed { flood.forgiveReset() }
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
            case .admitted(let caller): admitted = caller
            case .refused(let refusal):
                reportRefusal(of: method, refusal)
                end(startRecord(of: method), refusal.status)
                return refuse(stream, refusal.status)
            case .later, nil: break
            }
            let record = startRecord(of: method, admitted: admitted)
            let isAnonymous = !machine.isAdmitted && admitted?.isAnonymous == true
            // A call of a streaming method may stay open, so it counts from its beginning.
            let counts = isAnonymous && method.isStreaming
            if counts, registration?.anonymousCallsOpened(open: 1) == 0 {
                reportRefusal(of: method, Self.tooManyAnonymous, caller: "")
                end(record, Self.tooManyAnonymous)
                return refuse(stream, Self.tooManyAnonymous)
            }
            let call = ServerCall(
                stream: stream, connection: self, method: method, head: head,
                messageBytesMax: messageBytesMax, admitted: admitted, record: record)
            stream.owner = call
            if counts { call.anonymity = .counted }
            if isAnonymous, !counts { newAnonymousCalls.append(call) }
            if case .later(let work) = answer {
                call.start(after: work)
            } else {
                callAccepted(admitted)
                call.start()
            }
            if endStream { call.receiveEnd() }
        case .refuse(let status):
            reportRefusal(of: nil, status, caller: "")
            end(startRecord(of: nil), status)
            refuse(stream, status)
        case .refuseHTTP(let status):
            report(Refusal(kind: .call, reason: "notGRPC", source: peer.source))
            var fields = HeaderFields([":status": status])
            // exact: our own status; RFC 9110 section 15.5.6 asks for the field.
            if status == "405" { fields.append("allow", "POST") }
            refuse(stream, fields)
        }
    }

    /// The call is admitted, or needs no admission.
    func callAccepted(_ admitted: (any Admitted)?) {
        if machine.callAccepted(isAnonymous: admitted?.isAnonymous == true) { registration?.admitted() }
    }

    /// Counts the calls without credentials that were not answered within one burst of reads, and ends those over the
    /// limits. One call of each connection is exempt: a connection that makes one health check after the other is served
    /// whatever other clients do, even if a request arrives in two parts.
    func countAnonymousCalls() {
        guard !newAnonymousCalls.isEmpty else { return }
        let open = newAnonymousCalls.filter { !$0.stream.isClosed }
        newAnonymousCalls = []
        guard !machine.isAdmitted, !machine.isClosed, let registration else { return }
        let staying = registration.anonymousCallsOpened(open: open.count)
        for call in open.prefix(staying) { call.anonymity = .counted }
        var tooMany = open.dropFirst(staying)
        if !hasExemptCall, let call = tooMany.popFirst() {
            hasExemptCall = true
            call.anonymity = .exempt
        }
        guard !tooMany.isEmpty else { return }
        for call in tooMany {
            if call.machine.isOpen {
                call.fail(Self.tooManyAnonymous)
            } else {
                // The call was answered, and the client does not read the response.
                session.reset(call.stream, .enhanceYourCalm)
            }
        }
        flushNow()
    }

    private static let tooManyAnonymous = Status(
        .resourceExhausted, .connectionBusy,
        "too many open calls without credentials: end some, or make a call with credentials first"
    )

    /// Nil: the server requires no admission.
    func admission(for head: RequestHead, _ path: String) -> AdmissionAnswer? {
        guard let admission = configuration.admission else { return nil }
        if let lastAdmitted, lastAdmitted.isValid { return .admitted(lastAdmitted) }
        let answer = admission.admit(
            AdmissionRequest(path: path, authorization: head.authorization, peer: peer))
        if case .admitted(let caller) = answer { lastAdmitted = caller }
        return answer
    }

    func refuse(_ stream: HTTP2.Stream, _ status: Status) {
        var fields = Self.responseFields
        fields.append("grpc-accept-encoding", RequestHead.acceptedEncodings)
        status.detailed(by: configuration.detailsEncoder).append(to: &fields)
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

    // MARK: Refusals

    func report(_ refusal: Refusal) {
        configuration.refusals?.refused(refusal)
    }

    func reportRefusal(of connection: ConnectionRefusal) {
        report(Refusal(kind: .connection, reason: connection.rawValue, source: peer.source))
    }

    func reportRefusal(of method: Method?, _ refusal: AdmissionRefusal) {
        report(
            Refusal(
                kind: .call, reason: refusal.reason, method: method?.path, source: peer.source,
                caller: refusal.caller))
    }

    /// Has no effect for a status that does not count as a refusal.
    func reportRefusal(of method: Method?, _ status: Status, caller: String) {
        guard configuration.refusals != nil, let reason = status.refusalReason else { return }
        report(
            Refusal(kind: .call, reason: reason, method: method?.path, source: peer.source, caller: caller))
    }

    func log(_ error: any Error, of path: String) {
        logger.debug("handler failed", metadata: ["method": "\(path)", "error": "\(error)"])
    }
}
