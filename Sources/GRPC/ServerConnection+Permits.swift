internal import HTTP2
internal import NIOCore

/// Limits concurrent handlers that build a large response in memory, and pauses them while the client is not reading
/// (backpressure). A permit is held by the handler of a unary call, or while a streaming handler makes one message
/// (`ResponseWriter.write(withPermit:)`).
extension ServerConnection {
    private var hasPermit: Bool { resources.hasPermit(queuedBytes: session.queuedBytes) }

    func startWithPermit(_ call: ServerCall, _ message: ByteBuffer) {
        if waitingForPermit.isEmpty && hasPermit { return call.startUnary(message) }
        // A call that waits counts as a running handler, so that a client cannot pile them up.
        resources.handlerStarted()
        waitingForPermit.append((call, message.kept))
    }

    /// Resumes a handler that runs once it has a permit.
    func resumeWithPermit(_ call: ServerCall) {
        if waitingForPermit.isEmpty && hasPermit { return call.resumeWithPermit() }
        waitingForPermit.append((call, nil))
    }

    /// Removes a running handler from the queue, so that a client that resets calls and begins others piles up nothing.
    func stopWaitingForPermit(_ call: ServerCall) {
        waitingForPermit.removeAll { $0.call === call && $0.message == nil }
    }

    func permitReturned() {
        resources.returnPermit()
        startWaiting()
    }

    func startWaiting() {
        // Handlers that return at once come back here; the loop that is running takes the rest.
        guard !isStartingWaiting else { return }
        isStartingWaiting = true
        while hasPermit || machine.isClosed, let (call, message) = waitingForPermit.popFirst() {
            if let message {
                call.startUnary(message)
                handlerReturned()
            } else {
                call.resumeWithPermit()
            }
        }
        isStartingWaiting = false
    }

    func refuseWaiting(_ status: Status) {
        for (call, _) in waitingForPermit { call.fail(status) }
    }
}
