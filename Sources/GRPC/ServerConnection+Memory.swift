internal import HTTP2

/// Reports to `ConnectionResources` what the calls of this connection hold.
extension ServerConnection {
    /// To be called whenever more or less may be unsent.
    func updateQueuedBytes() {
        resources.updateQueued(machine.isClosed ? 0 : session.queuedBytes)
    }

    /// DATA of the call was received; nil: the burst of reads is over.
    ///
    /// A request that is not taken by then keeps only its own bytes, and no longer the buffer that it was received with. It
    /// keeps these only where the server has memory for incomplete requests.
    func receives(_ call: ServerCall?) {
        guard let last = lastReceiving, last !== call else {
            lastReceiving = call
            return
        }
        lastReceiving = call
        last.machine.keepReceived()
        guard last.machine.bufferedBytes > 0, !resources.hasRoomForUnfinished else { return }
        last.fail(ConnectionResources.tooManyUnfinished)
    }
}
