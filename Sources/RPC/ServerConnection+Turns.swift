internal import HTTP2
internal import NIOCore

/// Unary calls take turns: so many handlers at once, and none while much of what was answered is not read.
extension ServerConnection {
    var hasTurn: Bool {
        runningUnary < configuration.unaryHandlersPerConnection
            && session.queuedBytes < configuration.outboundBytesPerConnection
    }

    func startInTurn(_ call: ServerCall, _ message: ByteBuffer) {
        if waitingForTurn.isEmpty && hasTurn { return call.startUnary(message) }
        // It counts as one that runs, or they could be piled up.
        handlerStarted()
        waitingForTurn.append((call, message))
    }

    func unaryStarted() {
        runningUnary += 1
    }

    func unaryReturned() {
        runningUnary -= 1
        startWaiting()
    }

    func startWaiting() {
        // Handlers that return at once come back here: the loop that is on takes the rest.
        guard !isStartingWaiting else { return }
        isStartingWaiting = true
        while hasTurn || phase == .closed, let (call, message) = waitingForTurn.popFirst() {
            call.startUnary(message)
            handlerReturned()
        }
        isStartingWaiting = false
    }

    func refuseWaiting(_ status: Status) {
        for (call, _) in waitingForTurn { call.fail(status) }
    }
}
