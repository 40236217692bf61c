internal import MessageCompression
internal import NIOCore

/// The life of one call on the server, from accepted headers to the end.
///
///     receiving ── END_STREAM ──▶ received
///         │                          │
///         └───────── finish ─────────┴──▶ answered ── stream closed ──▶ closed
///
/// It decides; `ServerCall` acts. It touches no socket, task or clock.
struct ServerStreamStateMachine: ~Copyable {
    /// The number of messages that the method takes.
    enum Requests: Sendable, Equatable {
        /// Exactly one. The handler starts when it and END_STREAM were received.
        case one
        /// Any number. The handler has started, and pulls them.
        case many
    }

    private enum State: ~Copyable {
        /// The client may send more. Exits: `receiveEnd` → received, `finish` → answered, `close` → closed.
        case receiving(MessageReader, headersSent: Bool)
        /// The client has half-closed; messages may be left to pull. Exits: `finish` → answered, `close` → closed.
        case received(MessageReader, headersSent: Bool)
        /// The status was queued. Exit: `close` → closed.
        case answered
        /// The stream is closed. No exit.
        case closed
    }

    private let requests: Requests
    private var state: State

    init(requests: Requests, messageBytesMax: Int, sharesMemory: Bool, coding: Coding? = nil) {
        self.requests = requests
        self.state = .receiving(
            MessageReader(messageBytesMax: messageBytesMax, sharesMemory: sharesMemory, coding: coding),
            headersSent: false)
    }

    private init(_ requests: Requests, _ state: consuming State) {
        self.requests = requests
        self.state = state
    }

    // MARK: From the client

    enum ReceiveAction: Equatable {
        case none
        /// A complete message is there for a handler that waits for one.
        case deliver
        case fail(Status)
    }

    mutating func receive(_ bytes: ByteBuffer) -> ReceiveAction {
        let requests = requests
        switch consume state {
        case .receiving(var reader, let headersSent):
            reader.append(bytes)
            let check = reader.check()
            self = Self(requests, .receiving(reader, headersSent: headersSent))
            switch (check, requests) {
            case (.failure(let status), _): return .fail(status)
            case (.success(.some), .many): return .deliver
            case (.success, _): return .none
            }
        case .received(let reader, let headersSent):
            // The HTTP/2 layer lets no DATA pass after END_STREAM.
            assertionFailure("DATA after END_STREAM")
            self = Self(requests, .received(reader, headersSent: headersSent))
            return .none
        case .answered:
            // An expected race: the client has not seen the response yet.
            self = Self(requests, .answered)
            return .none
        case .closed:
            self = Self(requests, .closed)
            return .none
        }
    }

    enum EndAction: Equatable {
        case none
        /// The handler starts with the only message.
        case start(ByteBuffer)
        /// The last messages, or the end of the request, are there for a handler that waits.
        case deliver
        case fail(Status)
    }

    mutating func receiveEnd() -> EndAction {
        let requests = requests
        switch consume state {
        case .receiving(var reader, let headersSent):
            if requests == .many {
                let ragged = !reader.isEmpty && reader.check() == .success(nil)
                self = Self(requests, .received(reader, headersSent: headersSent))
                return ragged ? .fail(Self.raggedEnd) : .deliver
            }
            let message = reader.next()
            let isEmpty = reader.isEmpty
            self = Self(requests, .received(reader, headersSent: headersSent))
            switch message {
            case .failure(let status): return .fail(status)
            case .success(nil):
                // statuscodes.md: "Request cardinality violation" is UNIMPLEMENTED.
                return .fail(
                    isEmpty
                        ? Status(.unimplemented, .protocolViolation, "the method takes one message, got none")
                        : Self.raggedEnd)
            case .success(let message?):
                return isEmpty
                    ? .start(message)
                    : .fail(
                        Status(.unimplemented, .protocolViolation, "the method takes one message, got more"))
            }
        case .received(let reader, let headersSent):
            assertionFailure("END_STREAM twice")
            self = Self(requests, .received(reader, headersSent: headersSent))
            return .none
        case .answered:
            self = Self(requests, .answered)
            return .none
        case .closed:
            self = Self(requests, .closed)
            return .none
        }
    }

    private static let raggedEnd = Status(
        .internalError, .protocolViolation, "the request ends in the middle of a message")

    enum CloseAction: Equatable {
        case none
        /// The client is gone, and the response was not complete.
        case cancelHandler
    }

    /// The stream is closed: it is complete, the client has reset it, or its connection was lost.
    mutating func close() -> CloseAction {
        let requests = requests
        switch consume state {
        case .receiving(_, _):
            self = Self(requests, .closed)
            return .cancelHandler
        case .received(_, _):
            self = Self(requests, .closed)
            return .cancelHandler
        case .answered:
            self = Self(requests, .closed)
            return .none
        case .closed:
            self = Self(requests, .closed)
            return .none
        }
    }

    /// Whether messages or a status can still be sent.
    var isOpen: Bool {
        switch state {
        case .receiving: true
        case .received: true
        case .answered: false
        case .closed: false
        }
    }

    /// Bytes of the request that the handler has not taken.
    var bufferedBytes: Int {
        switch state {
        case .receiving(let reader, headersSent: _): reader.bufferedBytes
        case .received(let reader, headersSent: _): reader.bufferedBytes
        case .answered: 0
        case .closed: 0
        }
    }

    /// The handler takes the buffered bytes later: stops sharing memory with what was received together with them.
    mutating func keepReceived() {
        let requests = requests
        switch consume state {
        case .receiving(var reader, let headersSent):
            reader.keep()
            self = Self(requests, .receiving(reader, headersSent: headersSent))
        case .received(var reader, let headersSent):
            reader.keep()
            self = Self(requests, .received(reader, headersSent: headersSent))
        case .answered:
            self = Self(requests, .answered)
        case .closed:
            self = Self(requests, .closed)
        }
    }

    /// Whether the message that the handler was given last was compressed.
    var wasCompressed: Bool {
        switch state {
        case .receiving(let reader, headersSent: _): reader.wasCompressed
        case .received(let reader, headersSent: _): reader.wasCompressed
        case .answered: false
        case .closed: false
        }
    }

    /// The bytes by which the client's window is to be opened now.
    mutating func takeReleasedBytes() -> Int {
        let requests = requests
        switch consume state {
        case .receiving(var reader, let headersSent):
            let bytes = reader.takeReleasedBytes()
            self = Self(requests, .receiving(reader, headersSent: headersSent))
            return bytes
        case .received(let reader, let headersSent):
            self = Self(requests, .received(reader, headersSent: headersSent))
            return 0
        case .answered:
            self = Self(requests, .answered)
            return 0
        case .closed:
            self = Self(requests, .closed)
            return 0
        }
    }

    // MARK: From the handler

    enum PullAction: Equatable {
        case message(ByteBuffer)
        case wait
        case end
        case fail(Status)
        /// The call is over.
        case gone
    }

    mutating func pull() -> PullAction {
        let requests = requests
        switch consume state {
        case .receiving(var reader, let headersSent):
            let message = reader.next()
            self = Self(requests, .receiving(reader, headersSent: headersSent))
            switch message {
            case .failure(let status): return .fail(status)
            case .success(nil): return .wait
            case .success(let message?): return .message(message)
            }
        case .received(var reader, let headersSent):
            let message = reader.next()
            let isEmpty = reader.isEmpty
            self = Self(requests, .received(reader, headersSent: headersSent))
            switch message {
            case .failure(let status): return .fail(status)
            case .success(nil): return isEmpty ? .end : .fail(Self.raggedEnd)
            case .success(let message?): return .message(message)
            }
        case .answered:
            self = Self(requests, .answered)
            return .gone
        case .closed:
            self = Self(requests, .closed)
            return .gone
        }
    }

    enum SendAction: Equatable {
        case sendHeadersFirst
        case send
        /// The call is over.
        case gone
    }

    /// The handler sends a message, or its headers.
    mutating func send() -> SendAction {
        let requests = requests
        switch consume state {
        case .receiving(let reader, let headersSent):
            self = Self(requests, .receiving(reader, headersSent: true))
            return headersSent ? .send : .sendHeadersFirst
        case .received(let reader, let headersSent):
            self = Self(requests, .received(reader, headersSent: true))
            return headersSent ? .send : .sendHeadersFirst
        case .answered:
            self = Self(requests, .answered)
            return .gone
        case .closed:
            self = Self(requests, .closed)
            return .gone
        }
    }

    enum FinishAction: Equatable {
        /// Headers with the status in them and END_STREAM. `reset`: the client is still sending.
        case trailersOnly(reset: Bool)
        case trailers(reset: Bool)
        /// The call was over already.
        case none
    }

    /// The call ends with a status, from the handler, the deadline or a broken rule.
    mutating func finish() -> FinishAction {
        let requests = requests
        switch consume state {
        case .receiving(_, let headersSent):
            self = Self(requests, .answered)
            return headersSent ? .trailers(reset: true) : .trailersOnly(reset: true)
        case .received(_, let headersSent):
            self = Self(requests, .answered)
            return headersSent ? .trailers(reset: false) : .trailersOnly(reset: false)
        case .answered:
            self = Self(requests, .answered)
            return .none
        case .closed:
            self = Self(requests, .closed)
            return .none
        }
    }
}
