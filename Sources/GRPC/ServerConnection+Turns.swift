internal import HTTP2
internal import NIOCore

/// What makes a large answer as a whole takes turns: so many at once, and none while much of what was answered is not
/// read. That is the handler of a unary call, and a part of a streaming one (`ResponseWriter.write(inTurn:)`).
extension ServerConnection {
    var hasTurn: Bool {
        turnsTaken < configuration.turnsPerConnection
            && session.queuedBytes < configuration.outboundBytesPerConnection
    }

    func startInTurn(_ call: ServerCall, _ message: ByteBuffer) {
        if waitingForTurn.isEmpty && hasTurn { return call.startUnary(message) }
        // It counts as one that runs, or they could be piled up.
        handlerStarted()
        waitingForTurn.append((call, message.kept))
    }

    /// For a handler that runs: it goes on in its turn.
    func resumeInTurn(_ call: ServerCall) {
        if waitingForTurn.isEmpty && hasTurn { return call.resumeTurn() }
        waitingForTurn.append((call, nil))
    }

    /// The handler waits no longer: who resets calls and begins others piles up nothing.
    func leaveTurns(_ call: ServerCall) {
        waitingForTurn.removeAll { $0.call === call && $0.message == nil }
    }

    func turnTaken() {
        turnsTaken += 1
    }

    func turnReturned() {
        turnsTaken -= 1
        startWaiting()
    }

    func startWaiting() {
        // Handlers that return at once come back here: the loop that is on takes the rest.
        guard !isStartingWaiting else { return }
        isStartingWaiting = true
        while hasTurn || machine.isClosed, let (call, message) = waitingForTurn.popFirst() {
            if let message {
                call.startUnary(message)
                handlerReturned()
            } else {
                call.resumeTurn()
            }
        }
        isStartingWaiting = false
    }

    func refuseWaiting(_ status: Status) {
        for (call, _) in waitingForTurn { call.fail(status) }
    }
}
