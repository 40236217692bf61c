internal import HTTP2

/// What the client makes the server hold.
extension ServerConnection {
    /// What ordinary requests have in the moment of their being read: they come whole, and each is taken before the next.
    static let requestBytesFree = 64 * 1024
    /// What ordinary answers have until the client has read on.
    static let unreadBytesFree = 256 * 1024
    /// A call that holds no more than this, or has no more to say, does not answer for what all connections have: there
    /// may be another one on its connection, which does.
    static let smallCallBytes = 16 * 1024

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
        guard held > Self.smallCallBytes else { return nil }
        if change > 0, !hasRoom {
            return Status(.resourceExhausted, "the requests of all connections are too much just now")
        }
        if unfinished > 0, !hasRoomUnfinished {
            return Status(.resourceExhausted, "too many requests are sent in parts just now")
        }
        return nil
    }

    /// To be called whenever more or less may be unsent. False: with these bytes it is too much on all connections.
    @discardableResult
    func countUnread(with bytes: Int = 0) -> Bool {
        unreadShare.update(phase == .closed ? 0 : session.queuedBytes + bytes, of: budgets.unreadAnswers)
    }

    /// What has moved of something that is owed, for its pace: a part of it where the connection holds what others wait for.
    func paced(_ moved: Int, _ share: SharedBudget.Share, of budget: SharedBudget) -> Int {
        share.counted > 0 && budget.isScarce ? moved / Pace.scarcity : moved
    }

    /// A request that is not whole by the time another is received, or when all is, keeps no more than its own bytes.
    func receives(_ call: ServerCall?) {
        guard lastReceiving !== call else { return }
        lastReceiving?.machine.keepReceived()
        lastReceiving = call
    }
}
