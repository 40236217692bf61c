/// The counters of what one client makes the server hold, the limits on them, and the connection's shares of the
/// server-wide memory budgets. `ServerConnection` reports each change and carries out the answer.
struct ConnectionResources {
    /// The allowance for requests that is exempt from the memory budgets. Ordinary requests hold no more while they are
    /// read, because each arrives whole and is taken before the next.
    static let requestBytesExempt = 64 * 1024
    /// The allowance for unsent responses that is exempt from the memory budget: what ordinary responses hold until the
    /// client reads on.
    static let unreadBytesExempt = 256 * 1024
    /// Requests up to this size are exempt from the server-wide memory limit, so that small calls still get through under
    /// memory pressure. Incomplete requests are not exempt.
    static let smallRequestBytes = 16 * 1024
    /// A call with no more than this unsent, its next message included, is exempt from the server-wide limit on responses,
    /// so that a change that was made is acknowledged.
    static let smallResponseBytes = 2 * 1024

    private struct Limits {
        let handlers: Int
        let permits: Int
        let requestBytes: Int
        let queuedBytesSoft: Int
        let queuedBytes: Int
    }

    private let limits: Limits
    private let budgets: MemoryBudgets

    /// Running handlers, including those of reset streams (protects against rapid reset, CVE-2023-44487).
    private(set) var runningHandlers = 0
    /// Running handlers that hold a permit to build a large response in memory.
    private(set) var permitsInUse = 0
    /// Bytes of requests that are being received or whose handlers run.
    private(set) var requestBytes = 0
    /// Bytes of requests that no handler has taken.
    private(set) var unfinishedBytes = 0

    private var requestShare = MemoryBudget.Share(exempt: requestBytesExempt)
    private var unfinishedShare = MemoryBudget.Share(exempt: requestBytesExempt)
    private var unreadShare = MemoryBudget.Share(exempt: unreadBytesExempt)

    /// Progress through the connection's flow-control window.
    private var windowStall = StallDetector()
    private var bodyBytesSeen = 0
    /// Progress of the socket, and what the client's kernel had acknowledged at the last tick if the socket was full then.
    private var socketStall = StallDetector()
    private var acknowledgedBytesSeen: UInt64?

    init(configuration: ServerConfiguration, budgets: MemoryBudgets) {
        self.budgets = budgets
        limits = Limits(
            handlers: configuration.streamsPerConnectionMax, permits: configuration.permitsPerConnection,
            requestBytes: configuration.requestBytesPerConnection,
            queuedBytesSoft: configuration.outboundBytesPerConnection,
            queuedBytes: configuration.outboundBytesMax)
    }

    // MARK: Calls

    enum CallAdmission: Equatable {
        case admitted
        /// The stream is refused; the client may send the call again. `isFault`: the client knew the limit.
        case refused(isFault: Bool)
    }

    /// Responses of unary calls do not wait until there is room as those of streaming calls do, so a client that does not
    /// read its responses may not begin more calls.
    ///
    /// - Parameters:
    ///   - openStreams: with the stream of this call.
    ///   - queuedBytes: of responses, unsent on the connection.
    func admitCall(openStreams: Int, queuedBytes: Int) -> CallAdmission {
        if openStreams > limits.handlers { return .refused(isFault: true) }
        let hasRoom = runningHandlers < limits.handlers && queuedBytes < 4 * limits.queuedBytesSoft
        return hasRoom ? .admitted : .refused(isFault: false)
    }

    mutating func handlerStarted() {
        runningHandlers += 1
    }

    mutating func handlerReturned() {
        runningHandlers -= 1
    }

    /// Whether another handler may build a large response now: few at once, and none while the client is not reading.
    func hasPermit(queuedBytes: Int) -> Bool {
        permitsInUse < limits.permits && queuedBytes < limits.queuedBytesSoft
    }

    mutating func takePermit() {
        permitsInUse += 1
    }

    mutating func returnPermit() {
        permitsInUse -= 1
    }

    // MARK: Memory

    /// A change of what one call holds of its request, in bytes.
    struct RequestChange {
        /// More or less is held.
        var held: Int
        /// More or less is held that no handler has taken.
        var unfinished: Int
        /// All that the call holds now.
        var total: Int
    }

    /// Counts the change. The status is there when the call must end because the connection, or the server, holds too
    /// much.
    mutating func admit(request change: RequestChange) -> Status? {
        requestBytes += change.held
        unfinishedBytes += change.unfinished
        let hasRoom = requestShare.update(requestBytes, of: budgets.requests)
        let hasRoomUnfinished = unfinishedShare.update(unfinishedBytes, of: budgets.unfinishedRequests)
        if change.held > 0, requestBytes > limits.requestBytes {
            return Status(
                .resourceExhausted, .connectionBusy,
                "the requests of the connection exceed \(limits.requestBytes) bytes in total",
                ["limitBytes": "\(limits.requestBytes)"])
        }
        guard change.total > Self.smallRequestBytes else { return nil }
        if change.held > 0, !hasRoom {
            return Status(.unavailable, .serverBusy, "server memory limit for requests reached, try again")
        }
        return change.unfinished > 0 && !hasRoomUnfinished ? Self.tooManyUnfinished : nil
    }

    /// Whether requests that are not complete when others arrive may stay.
    var hasRoomForUnfinished: Bool { unfinishedShare.hasRoom(in: budgets.unfinishedRequests) }

    static let tooManyUnfinished = Status(
        .unavailable, .serverBusy, "server memory limit for incomplete requests reached, try again")

    /// Counts a message that is about to be queued. The status is there when the call must end because the client reads
    /// too slowly.
    ///
    /// - Parameters:
    ///   - queuedBytes: unsent on the connection without this message.
    ///   - queuedOnStream: unsent on the stream without this message.
    mutating func admit(response bytes: Int, queuedBytes: Int, queuedOnStream: Int) -> Status? {
        guard queuedBytes + bytes <= limits.queuedBytes else {
            return Status(
                .resourceExhausted, .responsesUnread,
                "the client has left more than \(limits.queuedBytes) bytes of responses unread",
                ["limitBytes": "\(limits.queuedBytes)"])
        }
        let hasRoom = updateQueued(queuedBytes + bytes)
        guard hasRoom || queuedOnStream + bytes <= Self.smallResponseBytes else {
            return Status(
                .resourceExhausted, .responsesUnread, "too much unread response data on the server, try again"
            )
        }
        return nil
    }

    /// To be called whenever more or less may be unsent on the connection.
    ///
    /// - Returns: false when this is more than remains of the server-wide budget.
    @discardableResult
    mutating func updateQueued(_ bytes: Int) -> Bool {
        unreadShare.update(bytes, of: budgets.unreadResponses)
    }

    // MARK: Stalls

    /// The connection's tick: looks at the progress through its flow-control window, which all streams share.
    ///
    /// - Parameters:
    ///   - bodyBytesSent: since the beginning, of all streams.
    ///   - isHeldByPeer: there is something to send, and the window is used up.
    mutating func tick(bodyBytesSent: Int, isHeldByPeer: Bool) {
        let sent = bodyBytesSent - bodyBytesSeen
        bodyBytesSeen = bodyBytesSent
        if isHeldByPeer {
            _ = windowStall.tick(moved: progress(ofResponses: sent))
        } else {
            windowStall.reset()
        }
    }

    /// For how many ticks the window has let too little through.
    var windowStallTicks: Int { Int(windowStall.ticks) }

    /// The responses that held up the window are gone; the next ones get the full time.
    mutating func windowReleased() {
        windowStall.reset()
    }

    /// The tick of a connection whose socket is full.
    ///
    /// - Parameter acknowledgedBytes: by the client's kernel, since the beginning.
    /// - Returns: for how many ticks the socket has taken too little.
    mutating func tickFullSocket(acknowledgedBytes: UInt64) -> Int {
        defer { acknowledgedBytesSeen = acknowledgedBytes }
        guard let seen = acknowledgedBytesSeen else {
            socketStall.reset()
            return 0
        }
        let moved = acknowledgedBytes > seen ? Int(clamping: acknowledgedBytes - seen) : 0
        return socketStall.tick(moved: progress(ofResponses: moved))
    }

    mutating func socketDrained() {
        acknowledgedBytesSeen = nil
    }

    /// The progress that counts for bytes that the client has read: only a part of them while the memory budget is
    /// scarce and the connection uses some of it.
    func progress(ofResponses bytes: Int) -> Int {
        unreadShare.counted > 0 && budgets.unreadResponses.isScarce ? bytes / StallDetector.scarcity : bytes
    }

    /// The progress that counts for bytes that the client has sent.
    func progress(ofRequests bytes: Int) -> Int {
        unfinishedShare.counted > 0 && budgets.unfinishedRequests.isScarce
            ? bytes / StallDetector.scarcity : bytes
    }
}
