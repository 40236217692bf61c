// exact in this file: the keys of the metadata are our own words.

extension Status {
    /// Why the transport has ended a call, for programs. `ServerConfiguration.detailsEncoder` makes the details of the
    /// status from it, because the transport does not know the messages of `google.rpc`.
    package struct Reason: Sendable, Hashable {
        package enum Word: String, Sendable, CaseIterable {
            /// The server has no such method.
            case methodUnknown = "METHOD_UNKNOWN"
            /// The request is not what gRPC's protocol asks for. It was not carried out.
            case protocolViolation = "PROTOCOL_VIOLATION"
            /// The request's messages are compressed in a way that the server does not know.
            case encodingUnsupported = "ENCODING_UNSUPPORTED"
            case headersTooLarge = "HEADERS_TOO_LARGE"
            case messageTooLarge = "MESSAGE_TOO_LARGE"
            /// The deadline that the client has set has passed.
            case deadline = "DEADLINE"
            /// The connection has too many requests or calls open. This call was not carried out.
            case connectionBusy = "CONNECTION_BUSY"
            /// The client leaves too much of its responses unread. The call may have been carried out.
            case responsesUnread = "RESPONSES_UNREAD"
            /// All connections together hold too much. This call was not carried out.
            case serverBusy = "SERVER_BUSY"
            /// The connection is being closed. This call was not carried out, or was a stream.
            case connectionClosing = "CONNECTION_CLOSING"
            /// The server is shutting down. This call was not carried out, or was a stream.
            case shuttingDown = "SHUTTING_DOWN"
            /// The call was ended while its handler ran, so it may have been carried out.
            case outcomeUnknown = "OUTCOME_UNKNOWN"
            case credentialsExpired = "CREDENTIALS_EXPIRED"
            case cancelled = "CANCELLED"
            /// A bug of the server.
            case internalError = "INTERNAL"
        }

        package var word: Word
        /// The variable parts of the message.
        package var metadata: [String: String]

        package init(_ word: Word, _ metadata: [String: String] = [:]) {
            self.word = word
            self.metadata = metadata
        }

        /// The delay after which the client may send the same call again; nil: to wait does not help.
        package var retryDelay: Duration? {
            switch word {
            case .connectionBusy, .serverBusy, .connectionClosing, .shuttingDown, .outcomeUnknown:
                .seconds(1)
            case .methodUnknown, .protocolViolation, .encodingUnsupported, .headersTooLarge,
                .messageTooLarge, .deadline, .responsesUnread, .credentialsExpired, .cancelled,
                .internalError:
                nil
            }
        }
    }

    init(_ code: Code, _ word: Reason.Word, _ message: String, _ metadata: [String: String] = [:]) {
        self.init(code, message)
        reason = Reason(word, metadata)
    }

    /// The status with details made from its reason, if it has a reason and no details.
    func detailed(by encoder: (@Sendable (Status) -> [UInt8])?) -> Status {
        guard let encoder, reason != nil, details.isEmpty else { return self }
        var status = self
        status.details = encoder(self)
        return status
    }

    static func messageTooLarge(bytes: Int, bytesMax: Int) -> Status {
        Status(
            .resourceExhausted, .messageTooLarge,
            "a message of \(bytes) bytes is over the limit of \(bytesMax)",
            ["sizeBytes": "\(bytes)", "limitBytes": "\(bytesMax)"])
    }

    static let deadlinePassed = Status(.deadlineExceeded, .deadline, "the deadline has passed")
    static let callCancelled = Status(.cancelled, .cancelled, "the call was cancelled")
    static let twoWriters = Status(
        .internalError, .internalError, "two writers of one response stream")
}
