internal import HTTP2
internal import NIOCore
import Support

/// One call as the client sees it, on the connection's event loop.
final class ClientStream {
    let stream: HTTP2.Stream
    private let connection: ClientConnection
    private var messages: MessageReader
    private var phase = Phase.waiting
    private var reader: CheckedContinuation<ByteBuffer?, any Error>?
    private var writer: CheckedContinuation<Void, any Error>?
    private var deadline: Scheduled<Void>?

    private enum Phase {
        /// No response headers yet. Exits: answering, ended.
        case waiting
        /// Messages are received. Exit: ended.
        case answering
        /// The status is known; messages received before it may be left to read.
        case ended(Status)
    }

    init(stream: HTTP2.Stream, connection: ClientConnection, timeout: Duration?) {
        self.stream = stream
        self.connection = connection
        messages = MessageReader(
            messageBytesMax: connection.configuration.messageBytesMax, sharesMemory: true)
        if let timeout {
            let bound = NIOLoopBound(self, eventLoop: connection.eventLoop)
            deadline = connection.eventLoop.scheduleTask(in: timeout.timeAmount) {
                bound.value.fail(Status(.deadlineExceeded, "the deadline has passed"))
            }
        }
    }

    // MARK: From the server

    func receive(_ block: HeaderBlock, endStream: Bool) {
        switch phase {
        case .ended:
            return
        case .answering:
            end(with: ResponseStatus.of(trailers: block))
        case .waiting:
            if let http = block.value(for: ":status"), http.starts(with: "1") { return }
            if endStream || ResponseStatus.refusal(of: block) != nil {
                // Trailers-Only, or not gRPC at all.
                end(with: ResponseStatus.refusal(of: block) ?? ResponseStatus.of(trailers: block))
            } else {
                phase = .answering
            }
        }
    }

    func receive(_ bytes: ByteBuffer) {
        guard case .answering = phase else {
            return connection.session.consume(bytes.readableBytes, of: stream)
        }
        messages.append(bytes)
        deliver()
    }

    func receiveEnd() {
        end(with: Status(.internalError, "the response ended without a status"))
    }

    func closed(_ code: ErrorCode) {
        end(with: ResponseStatus.of(reset: code))
    }

    private func end(with status: Status) {
        if case .ended = phase { return }
        phase = .ended(status)
        deadline?.cancel()
        deadline = nil
        if let writer {
            self.writer = nil
            writer.resume(throwing: status)
        }
        deliver()
    }

    /// Resets the call.
    func fail(_ status: Status) {
        if case .ended = phase { return }
        connection.session.reset(stream, .cancel)
        connection.needsFlush()
        end(with: status)
    }

    // MARK: For the caller

    private func deliver() {
        guard let reader else { return }
        switch messages.next() {
        case .failure(let status):
            self.reader = nil
            fail(status)
            reader.resume(throwing: status)
        case .success(let message?):
            self.reader = nil
            reader.resume(returning: message)
        case .success(nil):
            guard case .ended(let status) = phase else { break }
            self.reader = nil
            if status.code == .ok {
                if messages.isEmpty {
                    reader.resume(returning: nil)
                } else {
                    reader.resume(
                        throwing: Status(.internalError, "the response ends in the middle of a message"))
                }
            } else {
                reader.resume(throwing: status)
            }
        }
        connection.session.consume(messages.takeReleasedBytes(), of: stream)
        connection.needsFlush()
    }

    func pull(_ continuation: CheckedContinuation<ByteBuffer?, any Error>) {
        guard reader == nil else {
            return continuation.resume(throwing: Status(.internalError, "two readers of one response"))
        }
        reader = continuation
        deliver()
    }

    /// - Returns: false when the call is over.
    func write(_ message: ByteBuffer) -> Bool {
        if case .ended = phase { return false }
        connection.session.write(messagePrefix(length: message.readableBytes), message, to: stream)
        connection.needsFlush()
        return true
    }

    func write(_ message: ByteBuffer, _ continuation: CheckedContinuation<Void, any Error>) {
        if case .ended(let status) = phase { return continuation.resume(throwing: status) }
        guard writer == nil else {
            return continuation.resume(throwing: Status(.internalError, "two writers of one request"))
        }
        _ = write(message)
        let bytesMax = connection.configuration.outboundBytesPerStream
        if stream.queuedBytes < bytesMax { return continuation.resume() }
        writer = continuation
        connection.session.notifyWhenDrained(stream, to: bytesMax / 2)
    }

    func drained() {
        guard let writer else { return }
        self.writer = nil
        writer.resume()
    }

    func finish() {
        connection.session.finish(stream, trailers: nil)
        connection.needsFlush()
    }
}

/// The status of a call, from its last headers or its reset.
enum ResponseStatus {
    /// The status for headers that do not begin a gRPC response (http-grpc-status-mapping.md); nil: they do.
    static func refusal(of headers: HeaderBlock) -> Status? {
        if headers.isTruncated { return Status(.internalError, "the response's headers are over the limit") }
        let http = headers.value(for: ":status") ?? ""
        guard http == "200" else {  // exact: an ExactText
            if headers.value(for: "grpc-status") != nil { return of(trailers: headers) }
            let code: Status.Code =
                switch http {  // exact: an ExactText
                case "400": .internalError
                case "401": .unauthenticated
                case "403": .permissionDenied
                case "404": .unimplemented
                case "429", "502", "503", "504": .unavailable
                default: .unknown
                }
            return Status(code, "HTTP status \(http)")
        }
        guard headers.value(for: "content-type")?.starts(with: "application/grpc") == true else {
            return Status(.unknown, "the response is not gRPC")
        }
        // exact: an ExactText
        if let encoding = headers.value(for: "grpc-encoding"), encoding != "identity" {
            return Status(
                .internalError, "response uses grpc-encoding \"\(encoding)\", which was not requested")
        }
        return nil
    }

    static func of(trailers: HeaderBlock) -> Status {
        guard let text = trailers.value(for: "grpc-status") else {
            return Status(.unknown, "the response has no status")
        }
        let code = Int(text.text).flatMap(Status.Code.init(rawValue:)) ?? .unknown
        let message = trailers.value(for: "grpc-message").map { PercentEncoding.decode($0.utf8) } ?? ""
        let details =
            trailers.value(for: "grpc-status-details-bin").flatMap {
                Base64.standard.decode(Array($0.utf8)[...])
            } ?? []
        return Status(code, message, details: details, metadata: Metadata(trailers))
    }

    /// PROTOCOL-HTTP2.md, "Errors".
    static func of(reset code: ErrorCode) -> Status {
        switch code {
        case .refusedStream: Status(.unavailable, "the server refused the call")
        case .cancel: Status(.cancelled, "the server cancelled the call")
        case .enhanceYourCalm: Status(.resourceExhausted, "the server limits this client (ENHANCE_YOUR_CALM)")
        case .inadequateSecurity:
            Status(.permissionDenied, "the server requires more security (INADEQUATE_SECURITY)")
        default: Status(.internalError, "the call was reset: \(code)")
        }
    }
}
