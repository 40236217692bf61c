import NIOCore
import RPC
import Testing

@testable import RPC

@Suite struct ConnectionTimersTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private var configuration: ServerConfiguration {
        var configuration = ServerConfiguration()
        configuration.handshakeTimeout = .seconds(10)
        configuration.idleTimeout = .seconds(100)
        configuration.keepaliveInterval = .seconds(30)
        configuration.keepaliveTimeout = .seconds(20)
        configuration.pingsPerMinuteMax = 3
        return configuration
    }

    @Test func slowHandshakeIsClosed() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        #expect(timers.tick(now: start + .seconds(9), heard: true, used: false) == .none)
        #expect(timers.tick(now: start + .seconds(10), heard: true, used: false) == .close)
    }

    @Test func silenceIsPingedThenClosed() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        timers.established()
        #expect(timers.tick(now: start + .seconds(29), heard: false, used: true) == .none)
        #expect(timers.tick(now: start + .seconds(30), heard: false, used: true) == .sendPing)
        #expect(timers.tick(now: start + .seconds(49), heard: false, used: true) == .none)
        #expect(timers.tick(now: start + .seconds(50), heard: false, used: true) == .close)
    }

    @Test func answeredPingStartsAnew() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        timers.established()
        #expect(timers.tick(now: start + .seconds(30), heard: false, used: true) == .sendPing)
        #expect(timers.tick(now: start + .seconds(31), heard: true, used: true) == .none)
        #expect(timers.tick(now: start + .seconds(60), heard: false, used: true) == .none)
        #expect(timers.tick(now: start + .seconds(61), heard: false, used: true) == .sendPing)
    }

    @Test func idleConnectionGoesAway() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        timers.established()
        #expect(timers.tick(now: start + .seconds(50), heard: true, used: true) == .none)
        #expect(timers.tick(now: start + .seconds(149), heard: true, used: false) == .none)
        #expect(timers.tick(now: start + .seconds(150), heard: true, used: false) == .goAway)
    }

    @Test func clientThatDoesNotGoAwayIsClosed() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        timers.established()
        #expect(timers.tick(now: start + .seconds(100), heard: true, used: false) == .goAway)
        #expect(timers.tick(now: start + .seconds(119), heard: true, used: false) == .none)
        #expect(timers.tick(now: start + .seconds(120), heard: true, used: false) == .close)
    }

    @Test func callThatCrossesTheGoAwayStartsAnew() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        timers.established()
        #expect(timers.tick(now: start + .seconds(100), heard: true, used: false) == .goAway)
        #expect(timers.tick(now: start + .seconds(120), heard: true, used: true) == .none)
        #expect(timers.tick(now: start + .seconds(220), heard: true, used: false) == .goAway)
    }

    @Test func pingsHaveABudgetAMinute() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        let accepted = [1, 1, 1, 2, 61].map { timers.receivedPing(now: start + .seconds($0)) }
        #expect(accepted == [true, true, true, false, true])
    }
}
