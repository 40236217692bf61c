internal import HTTP2

/// What the client makes the server hold.
extension ServerConnection {
    /// What ordinary requests have in the moment of their being read: they come whole, and each is taken before the next.
    static let requestBytesFree = 64 * 1024
    /// What ordinary answers have until the client has read on.
    static let unreadBytesFree = 256 * 1024
    /// A request of no more than this does not answer for what all connections have, unless it stays unfinished: there may
    /// be another one on its connection, which does.
    static let smallRequestBytes = 16 * 1024
    /// The same of what is unread of a call with its next message: a change that is made is acknowledged.
    static let smallAnswerBytes = 2 * 1024

    /// Of the call's request, of which it holds so many bytes now, more or less is held, and of what no handler has taken.
    /// The status is there when that is too much.
    func countRequests(_ change: Int, unfinished: Int, held: Int) -> Status? {
        requestBytes += change
        unfinishedBytes += unfinished
        let hasRoom = requestShare.update(requestBytes, of: budgets.requests)
        let hasRoomUnfinished = unfinishedShare.update(unfinishedBytes, of: budgets.unfinishedRequests)
        let bytesMax = configuration.requestBytesPerConnection
        if change > 0, requestBytes > bytesMax {
            return Status(.resourceExhausted, "the connection's requests are over \(bytesMax) bytes together")
        }
        guard held > Self.smallRequestBytes else { return nil }
        if change > 0, !hasRoom {
            return Status(.resourceExhausted, "the requests of all connections are too much just now")
        }
        return unfinished > 0 && !hasRoomUnfinished ? Self.tooManyParts : nil
    }

    private static let tooManyParts = Status(
        .resourceExhausted, "too many requests are sent in parts just now")

    /// To be called whenever more or less may be unsent. False: with these bytes it is too much on all connections.
    @discardableResult
    func countUnread(with bytes: Int = 0) -> Bool {
        unreadShare.update(machine.isClosed ? 0 : session.queuedBytes + bytes, of: budgets.unreadAnswers)
    }

    /// What has moved of something that is owed, for its pace: a part of it where the connection holds what others wait for.
    func paced(_ moved: Int, _ share: SharedBudget.Share, of budget: SharedBudget) -> Int {
        share.counted > 0 && budget.isScarce ? moved / Pace.scarcity : moved
    }

    /// A request that is not taken by the time another is received, or when all is, keeps no more than its own bytes, and
    /// these only where there is room for them.
    func receives(_ call: ServerCall?) {
        guard let last = lastReceiving, last !== call else {
            lastReceiving = call
            return
        }
        lastReceiving = call
        last.machine.keepReceived()
        guard last.machine.bufferedBytes > 0, !unfinishedShare.hasRoom(in: budgets.unfinishedRequests) else {
            return
        }
        last.fail(Self.tooManyParts)
    }
}
