import NIOCore
import Testing

@testable import GRPC

@Suite struct ServerConnectionStateMachineTests {
    private let start = NIODeadline.uptimeNanoseconds(0)

    private func machine(
        _ configure: (inout ServerConfiguration) -> Void = { _ in }
    ) -> ServerConnectionStateMachine {
        var configuration = ServerConfiguration()
        configure(&configuration)
        let timers = ConnectionTimers(configuration: configuration, now: start)
        return ServerConnectionStateMachine(timers: timers)
    }

    private typealias Machine = ServerConnectionStateMachine

    @Test func drainWaitsForTheAcknowledgement() {
        var machine = machine()
        #expect(machine.drain() == true)
        #expect(machine.state == .draining)
        #expect(machine.acceptsCalls == true)
        #expect(machine.pingAcknowledged(Machine.keepalivePing) == false)
        #expect(machine.pingAcknowledged(Machine.drainPing) == true)
        #expect(machine.state == .refusing)
        #expect(machine.pingAcknowledged(Machine.drainPing) == false)
        #expect(machine.drainTimedOut() == false)
        #expect(machine.sessionFinished() == .closeAfterFlush(isFault: false))
    }

    @Test func drainHasATimeLimit() {
        var machine = machine()
        #expect(machine.drainTimedOut() == false)
        #expect(machine.drain() == true)
        #expect(machine.drain() == false)
        #expect(machine.drainTimedOut() == true)
        #expect(machine.drainTimedOut() == false)
        #expect(machine.pingAcknowledged(Machine.drainPing) == false)
    }

    @Test func sessionEndedByTheLibraryIsAFaultOfTheClient() {
        var machine = machine()
        #expect(machine.sessionFinished() == .closeAfterFlush(isFault: true))
        #expect(machine.sessionFinished() == .none)
        #expect(machine.acceptsCalls == false)
        #expect(machine.readsInput == true)
    }

    @Test func sessionThatEndsAfterTheClientsGoAwayIsNoFault() {
        var machine = machine()
        machine.goAwayReceived()
        #expect(machine.acceptsCalls == true)
        #expect(machine.sessionFinished() == .closeAfterFlush(isFault: false))
    }

    @Test func failedSessionIsReportedOnce() {
        var machine = machine()
        #expect(machine.sessionFailed() == true)
        #expect(machine.sessionFailed() == false)
        #expect(machine.sessionFinished() == .none)
    }

    @Test func clientThatIsCutOffIsReadNoMore() {
        var machine = machine()
        #expect(machine.bytesReceived() == true)
        #expect(machine.floodDetected() == true)
        #expect(machine.floodDetected() == false)
        #expect(machine.bytesReceived() == false)
        #expect(machine.acceptsCalls == false)
        #expect(machine.drain() == false)
        #expect(machine.cutOffSent() == true)
        #expect(machine.cutOffSent() == false)
        #expect(machine.sessionFinished() == .none)
    }

    @Test func clientThatIsCutOffWithoutOpenStreamsIsClosedAtOnce() {
        var machine = machine()
        #expect(machine.floodDetected() == true)
        #expect(machine.sessionFinished() == .closeAfterFlush(isFault: false))
    }

    @Test func floodIsDetectedWhileClosing() {
        var machine = machine()
        #expect(machine.sessionFailed() == true)
        #expect(machine.floodDetected() == true)
    }

    @Test(arguments: [false, true]) func abortEndsEveryStateButClosed(_ isCutOff: Bool) {
        var machine = machine()
        if isCutOff { #expect(machine.floodDetected() == true) }
        #expect(machine.abort() == true)
        #expect(machine.state == .closing)
        #expect(machine.channelClosed() == true)
        #expect(machine.abort() == false)
    }

    @Test func endIsReportedOnceAfterTheLastHandler() {
        var machine = machine()
        #expect(machine.reportsEnd(runningHandlers: 0) == false)
        #expect(machine.channelClosed() == true)
        #expect(machine.channelClosed() == false)
        #expect(machine.reportsEnd(runningHandlers: 1) == false)
        #expect(machine.reportsEnd(runningHandlers: 0) == true)
        #expect(machine.reportsEnd(runningHandlers: 0) == false)
        #expect(machine.drain() == false)
        #expect(machine.floodDetected() == false)
        #expect(machine.sessionFailed() == false)
    }

    @Test func onlyTheFirstCallWithCredentialsAdmits() {
        var machine = machine()
        #expect(machine.callAccepted(isAnonymous: true) == false)
        #expect(machine.isAdmitted == false)
        #expect(machine.callAccepted(isAnonymous: false) == true)
        #expect(machine.isAdmitted == true)
        #expect(machine.callAccepted(isAnonymous: false) == false)
    }

    @Test func handshakeTimesOut() {
        var machine = machine { $0.handshakeTimeout = .seconds(10) }
        #expect(machine.tick(now: start + .seconds(9), isBusy: false, isTrusted: true) == .none)
        let action = machine.tick(now: start + .seconds(10), isBusy: false, isTrusted: true)
        #expect(action == .close(handshakeTimedOut: true))
    }

    @Test func silentClientIsPingedThenClosed() {
        var machine = machine {
            $0.keepaliveInterval = .seconds(30)
            $0.keepaliveTimeout = .seconds(20)
        }
        machine.settingsReceived()
        #expect(machine.bytesReceived() == true)
        #expect(machine.tick(now: start + .seconds(1), isBusy: true, isTrusted: true) == .none)
        #expect(machine.tick(now: start + .seconds(31), isBusy: true, isTrusted: true) == .sendPing)
        let action = machine.tick(now: start + .seconds(51), isBusy: true, isTrusted: true)
        #expect(action == .close(handshakeTimedOut: false))
    }

    @Test func acceptedCallKeepsTheConnectionForOneIdleTimeout() {
        var machine = machine { $0.idleTimeout = .seconds(100) }
        machine.settingsReceived()
        _ = machine.bytesReceived()
        _ = machine.callAccepted(isAnonymous: false)
        #expect(machine.tick(now: start + .seconds(50), isBusy: false, isTrusted: true) == .none)
        _ = machine.bytesReceived()
        #expect(machine.tick(now: start + .seconds(149), isBusy: false, isTrusted: true) == .none)
        _ = machine.bytesReceived()
        #expect(machine.tick(now: start + .seconds(150), isBusy: false, isTrusted: true) == .drain)
        #expect(machine.state == .draining)
    }

    @Test func idleConnectionThatDrainsAlreadyIsNotDrainedAgain() {
        var machine = machine { $0.idleTimeout = .seconds(100) }
        machine.settingsReceived()
        #expect(machine.drain() == true)
        _ = machine.bytesReceived()
        #expect(machine.tick(now: start + .seconds(100), isBusy: false, isTrusted: true) == .none)
        #expect(machine.state == .draining)
    }

    @Test func nothingTicksAfterTheEnd() {
        var machine = machine { $0.handshakeTimeout = .seconds(10) }
        #expect(machine.channelClosed() == true)
        #expect(machine.ticks == false)
        #expect(machine.tick(now: start + .seconds(10), isBusy: false, isTrusted: true) == .none)
    }
}
