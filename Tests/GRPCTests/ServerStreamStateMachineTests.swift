import NIOCore
import Testing

@testable import GRPC

@Suite struct ServerStreamStateMachineTests {
    private func machine(_ requests: ServerStreamStateMachine.Requests) -> ServerStreamStateMachine {
        ServerStreamStateMachine(requests: requests, messageBytesMax: 100, sharesMemory: true)
    }

    private let message = ByteBuffer(bytes: [0, 0, 0, 0, 1, 7])
    private let body = ByteBuffer(bytes: [7])

    @Test func unaryCall() {
        var machine = machine(.one)
        #expect(machine.receive(message) == .none)
        #expect(machine.receiveEnd() == .start(body))
        #expect(machine.send() == .sendHeadersFirst)
        #expect(machine.finish() == .trailers(reset: false))
        #expect(machine.finish() == .none)
        #expect(machine.close() == .none)
    }

    @Test func whatIsBufferedIsCountedUntilItIsTaken() {
        var machine = machine(.many)
        #expect(machine.bufferedBytes == 0)
        _ = machine.receive(message)
        _ = machine.receive(ByteBuffer(bytes: [0, 0]))
        #expect(machine.bufferedBytes == 8)
        #expect(machine.pull() == .message(body))
        #expect(machine.bufferedBytes == 2)
        _ = machine.finish()
        #expect(machine.bufferedBytes == 0)
    }

    @Test func noMessageIsRefused() {
        var machine = machine(.one)
        #expect(
            machine.receiveEnd()
                == .fail(Status(.unimplemented, .protocolViolation, "the method takes one message, got none"))
        )
        #expect(machine.finish() == .trailersOnly(reset: false))
    }

    @Test func twoMessagesAreRefused() {
        var machine = machine(.one)
        _ = machine.receive(message)
        _ = machine.receive(message)
        #expect(
            machine.receiveEnd()
                == .fail(Status(.unimplemented, .protocolViolation, "the method takes one message, got more"))
        )
    }

    @Test(arguments: [ServerStreamStateMachine.Requests.one, .many])
    func halfAMessageIsRefused(_ requests: ServerStreamStateMachine.Requests) {
        var machine = machine(requests)
        _ = machine.receive(ByteBuffer(bytes: [0, 0, 0]))
        guard case .fail(let status) = machine.receiveEnd() else {
            Issue.record("accepted")
            return
        }
        #expect(status.code == .internalError)
    }

    @Test func tooLargeIsRefusedAtThePrefix() {
        var machine = machine(.one)
        guard case .fail(let status) = machine.receive(ByteBuffer(bytes: [0, 0, 0, 0, 101])) else {
            Issue.record("accepted")
            return
        }
        #expect(status.code == .resourceExhausted)
        #expect(machine.finish() == .trailersOnly(reset: true))
        // What the client goes on to send is ignored.
        #expect(machine.receive(message) == .none)
        #expect(machine.receiveEnd() == .none)
        #expect(machine.send() == .gone)
    }

    @Test func manyMessages() {
        var machine = machine(.many)
        #expect(machine.pull() == .wait)
        #expect(machine.receive(message) == .deliver)
        #expect(machine.pull() == .message(body))
        #expect(machine.pull() == .wait)
        #expect(machine.receive(message) == .deliver)
        #expect(machine.receiveEnd() == .deliver)
        #expect(machine.pull() == .message(body))
        #expect(machine.pull() == .end)
        #expect(machine.send() == .sendHeadersFirst)
        #expect(machine.send() == .send)
        #expect(machine.finish() == .trailers(reset: false))
        #expect(machine.pull() == .gone)
    }

    @Test func answerBeforeTheEndOfTheRequestResets() {
        var machine = machine(.many)
        _ = machine.send()
        #expect(machine.finish() == .trailers(reset: true))
    }

    @Test func lostClientCancelsTheHandlerOnce() {
        var machine = machine(.many)
        #expect(machine.close() == .cancelHandler)
        #expect(machine.close() == .none)
        #expect(machine.finish() == .none)
        #expect(machine.pull() == .gone)
        #expect(machine.send() == .gone)
    }
}
