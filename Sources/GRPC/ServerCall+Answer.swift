internal import HTTP2
internal import MessageCompression
internal import NIOCore
import Support

/// What goes to the client: headers, messages, trailers.
extension ServerCall {
    /// True when the handler may go on at once, false when it must wait, nil when the call is over.
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
        guard writer == nil else {
            return continuation.resume(throwing: Status(.internalError, "two writers of one response stream"))
        }
        writer = continuation
        // Who waits has just written: there are bytes of its own whose end it is told of.
        connection.session.notifyWhenDrained(stream, to: connection.configuration.outboundBytesPerStream / 2)
    }

    func waitForTurn(_ continuation: CheckedContinuation<Void, any Error>) {
        guard !stream.isClosed else { return continuation.resume(throwing: CancellationError()) }
        guard writer == nil else {
            return continuation.resume(throwing: Status(.internalError, "two writers of one response stream"))
        }
        writer = continuation
        waitsForTurn = true
        connection.resumeInTurn(self)
    }

    /// The handler has its turn, unless it waits for it no longer.
    func resumeTurn() {
        guard waitsForTurn, let writer else { return }
        self.writer = nil
        waitsForTurn = false
        connection.turnTaken()
        writer.resume()
    }

    /// False when the call is over, also because there is no room for the message: it is queued whole, and
    /// a unary answer does not wait for room.
    func write(_ message: ByteBuffer, compressed: Bool = true) -> Bool {
        guard machine.isOpen else { return false }
        let bytesMax = connection.configuration.outboundBytesMax
        guard connection.session.queuedBytes + message.readableBytes <= bytesMax else {
            fail(Status(.resourceExhausted, "more than \(bytesMax) bytes of answers are not read"))
            return false
        }
        let hasRoom = connection.countUnread(with: message.readableBytes)
        guard hasRoom || stream.queuedBytes + message.readableBytes <= ServerConnection.smallAnswerBytes
        else {
            fail(Status(.resourceExhausted, "too much of what is answered is not read just now"))
            return false
        }
        guard sendHeaders() else { return false }
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

    /// Nil is OK, the common case.
    func finish(_ status: Status?, isTold: Bool = false) {
        deadline?.cancel()
        deadline = nil
        let answer = machine.finish()
        if let status, !isTold, answer != .none {
            connection.tellRefusal(of: context.method, status, caller: context.admitted?.name ?? "")
        }
        switch answer {
        case .none: return
        case .trailersOnly(let reset):
            if reset { connection.session.resetAfterEnd(stream) }
            var fields = ServerConnection.responseFields
            let metadata = context.state
            metadata.initial.append(to: &fields)
            metadata.trailing.append(to: &fields)
            (status ?? Status(.ok)).append(to: &fields)
            respond(.fields(fields), endStream: true)
        case .trailers(let reset):
            if reset { connection.session.resetAfterEnd(stream) }
            let metadata = context.state.trailing
            if status == nil && metadata.isEmpty {
                connection.session.finish(stream, trailers: .prepared(connection.okTrailers))
            } else {
                var fields = HeaderFields()
                metadata.append(to: &fields)
                (status ?? Status(.ok)).append(to: &fields)
                connection.session.finish(stream, trailers: .fields(fields))
            }
        }
        connection.needsFlush()
    }

    func respond(_ headers: OutboundHeaders, endStream: Bool) {
        do {
            try connection.session.respond(stream, headers, endStream: endStream)
        } catch {
            // Refused by the library: the only thing left to say is that this stream has failed.
            connection.session.reset(stream, .internalError)
        }
    }
}

extension Status {
    /// As trailers, or as part of a Trailers-Only answer (PROTOCOL-HTTP2.md, "Responses").
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
