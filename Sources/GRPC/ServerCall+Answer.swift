internal import HTTP2
internal import MessageCompression
internal import NIOCore
import Support

/// The response: headers, messages, trailers.
extension ServerCall {
    /// - Returns: true when the handler may write on at once, false when it must wait, nil when the call is over.
    func writeFromHandler(_ message: ByteBuffer, compressed: Bool) -> Bool? {
        guard write(message, compressed: compressed) else { return nil }
        return hasRoom
    }

    var hasRoom: Bool {
        stream.queuedBytes < connection.configuration.outboundBytesPerStream
            && connection.session.queuedBytes < connection.configuration.outboundBytesPerConnection
    }

    func waitForDrain(_ continuation: CheckedContinuation<Void, any Error>) {
        guard !stream.isClosed else { return continuation.resume(throwing: CancellationError()) }
        guard case .none = writer else {
            return continuation.resume(throwing: Status.twoWriters)
        }
        writer = .drain(continuation)
        // The writer has just queued bytes, so a drain notification is guaranteed to arrive.
        connection.session.notifyWhenDrained(stream, to: connection.configuration.outboundBytesPerStream / 2)
    }

    func waitForPermit(_ continuation: CheckedContinuation<Void, any Error>) {
        guard !stream.isClosed else { return continuation.resume(throwing: CancellationError()) }
        guard case .none = writer else {
            return continuation.resume(throwing: Status.twoWriters)
        }
        writer = .permit(continuation)
        connection.resumeWithPermit(self)
    }

    /// Resumes the handler with a permit, unless it no longer waits for one.
    func resumeWithPermit() {
        guard case .permit(let continuation) = writer else { return }
        writer = .none
        connection.resources.takePermit()
        continuation.resume()
    }

    /// Queues a whole message, however much is unsent: the response of a unary call does not wait until there is room.
    ///
    /// - Returns: false when the call is over, which it is also if the message exceeds a limit.
    func write(_ message: ByteBuffer, compressed: Bool = true) -> Bool {
        guard machine.isOpen else { return false }
        let excess = connection.resources.admit(
            response: message.readableBytes, queuedBytes: connection.session.queuedBytes,
            queuedOnStream: stream.queuedBytes)
        if let excess {
            fail(excess)
            return false
        }
        guard sendHeaders() else { return false }
        record?.responseQueued(message)
        if compressed, let shorter = responseCoding?.compress(message) {
            let prefix = messagePrefix(length: shorter.readableBytes, isCompressed: true)
            connection.session.write(prefix, shorter, to: stream)
        } else {
            connection.session.write(messagePrefix(length: message.readableBytes), message, to: stream)
        }
        connection.needsFlush()
        return true
    }

    func sendHeaders() -> Bool {
        switch machine.send() {
        case .gone: return false
        case .send: return true
        case .sendHeadersFirst:
            let metadata = context.state
            responseCoding = metadata.coding
            if metadata.initial.isEmpty, responseCoding == nil {
                respond(.prepared(connection.okHeaders), endStream: false)
            } else {
                var fields = ServerConnection.responseFields
                if let responseCoding { fields.append("grpc-encoding", responseCoding.name) }
                metadata.initial.append(to: &fields)
                respond(.fields(fields), endStream: false)
            }
            connection.needsFlush()
            return true
        }
    }

    /// Ends the call; nil is OK, the common case.
    func finish(_ status: Status?, isReported: Bool = false) {
        deadline?.cancel()
        deadline = nil
        let answer = machine.finish()
        if let status, !isReported, answer != .none {
            connection.reportRefusal(of: context.method, status, caller: context.admitted?.name ?? "")
        }
        if answer != .none { endRecord(status ?? Status(.ok)) }
        switch answer {
        case .none: return
        case .trailersOnly(let reset):
            if reset { connection.session.resetAfterEnd(stream) }
            var fields = ServerConnection.responseFields
            let metadata = context.state
            metadata.initial.append(to: &fields)
            metadata.trailing.append(to: &fields)
            detailed(status).append(to: &fields)
            respond(.fields(fields), endStream: true)
        case .trailers(let reset):
            if reset { connection.session.resetAfterEnd(stream) }
            let metadata = context.state.trailing
            if status == nil && metadata.isEmpty {
                connection.session.finish(stream, trailers: .prepared(connection.okTrailers))
            } else {
                var fields = HeaderFields()
                metadata.append(to: &fields)
                detailed(status).append(to: &fields)
                connection.session.finish(stream, trailers: .fields(fields))
            }
        }
        connection.needsFlush()
    }

    private func detailed(_ status: Status?) -> Status {
        status?.detailed(by: connection.configuration.detailsEncoder) ?? Status(.ok)
    }

    func respond(_ headers: OutboundHeaders, endStream: Bool) {
        do {
            try connection.session.respond(stream, headers, endStream: endStream)
        } catch {
            // The library has refused the headers: all that can be sent is that this stream has failed.
            connection.session.reset(stream, .internalError)
        }
    }
}

extension Status {
    /// Appends the status as trailers, or as part of a Trailers-Only response (PROTOCOL-HTTP2.md, "Responses").
    func append(to fields: inout HeaderFields) {
        fields.append("grpc-status", String(code.rawValue))
        if !message.isEmpty {
            fields.append("grpc-message", PercentEncoding.encode(message, bytesMax: Self.messageBytesMax))
        }
        if !details.isEmpty && details.count <= Self.detailsBytesMax {
            fields.append("grpc-status-details-bin", Base64.standard.encode(details))
        }
        metadata.append(to: &fields)
    }
}
