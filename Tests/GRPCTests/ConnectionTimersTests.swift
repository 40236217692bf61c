import NIOCore
import GRPC
import Testing

@testable import GRPC

@Suite struct ConnectionTimersTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private var configuration: ServerConfiguration {
        var configuration = ServerConfiguration()
        configuration.handshakeTimeout = .seconds(10)
        configuration.idleTimeout = .seconds(100)
        configuration.keepaliveInterval = .seconds(30)
        configuration.keepaliveTimeout = .seconds(20)
        return configuration
    }

    @Test func slowHandshakeIsClosed() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        #expect(timers.tick(now: start + .seconds(9), heard: true, used: false) == .none)
        #expect(timers.tick(now: start + .seconds(10), heard: true, used: false) == .close)
    }

    /// Ticks come when they come; the end of the time for a handshake is one of them.
    @Test func aTickFallsOnTheEndOfTheHandshake() {
        var configuration = configuration
        configuration.stallTimeout = .seconds(16)
        var timers = ConnectionTimers(configuration: configuration, now: start)
        #expect(timers.untilNextTick(now: start) == .seconds(4))
        #expect(timers.untilNextTick(now: start + .seconds(8)) == .seconds(2))
        #expect(timers.untilNextTick(now: start + .seconds(11)) == .nanoseconds(1))
        timers.established()
        #expect(timers.untilNextTick(now: start + .seconds(8)) == .seconds(4))
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

    @Test func anUnadmittedConnectionGoesAwaySooner() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        timers.established()
        let (call, none) = (true, false)
        #expect(timers.tick(now: start + .seconds(25), heard: true, used: call, admitted: false) == .none)
        #expect(timers.tick(now: start + .seconds(54), heard: true, used: none, admitted: false) == .none)
        #expect(timers.tick(now: start + .seconds(55), heard: true, used: none, admitted: false) == .goAway)
        #expect(timers.tick(now: start + .seconds(56), heard: true, used: call, admitted: true) == .none)
        #expect(timers.tick(now: start + .seconds(155), heard: true, used: none, admitted: true) == .none)
        #expect(timers.tick(now: start + .seconds(156), heard: true, used: none, admitted: true) == .goAway)
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

    @Test(arguments: [0.9, 1, 1.1]) func anOldConnectionGoesAway(_ factor: Double) {
        var configuration = configuration
        configuration.connectionAgeMax = .seconds(1_000)
        configuration.connectionAgeGrace = .seconds(50)
        var timers = ConnectionTimers(configuration: configuration, now: start, ageFactor: factor)
        timers.established()
        let age = Int64(1_000 * factor)
        #expect(timers.tick(now: start + .seconds(age - 1), heard: true, used: true) == .none)
        #expect(timers.tick(now: start + .seconds(age), heard: true, used: true) == .goAway)
        #expect(timers.tick(now: start + .seconds(age + 49), heard: true, used: true) == .none)
        #expect(timers.tick(now: start + .seconds(age + 50), heard: true, used: true) == .abort(.age))
    }

    @Test func anOldConnectionWithoutAGraceIsStillKeptAlive() {
        var configuration = configuration
        configuration.connectionAgeMax = .seconds(1_000)
        var timers = ConnectionTimers(configuration: configuration, now: start)
        timers.established()
        #expect(timers.tick(now: start + .seconds(1_000), heard: true, used: true) == .goAway)
        #expect(timers.tick(now: start + .seconds(100_000), heard: false, used: true) == .sendPing)
    }

    /// The calls of the others that were let in by the same file have a tick's time to end.
    @Test func aConnectionThatIsTrustedNoLongerGoesAway() {
        var timers = ConnectionTimers(configuration: configuration, now: start)
        #expect(timers.tick(now: start, heard: true, used: false, trusted: false) == .close)
        timers.established()
        #expect(timers.tick(now: start, heard: true, used: true, trusted: true) == .none)
        #expect(timers.tick(now: start, heard: true, used: true, trusted: false) == .goAway)
        #expect(timers.tick(now: start, heard: true, used: true, trusted: false) == .abort(.trust))
        var configuration = configuration
        configuration.tls = .init(certificateChainPath: "", privateKeyPath: "", clientCAPath: "")
        #expect(ConnectionTimers(configuration: configuration, now: start).tickInterval == .seconds(2))
    }

    @Test func aTickIsShortEnoughForEveryTime() {
        var configuration = configuration
        configuration.stallTimeout = .seconds(2)
        let timers = ConnectionTimers(configuration: configuration, now: start)
        #expect(timers.tickInterval == .milliseconds(500) && timers.stallTicks == 4)
        configuration.stallTimeout = .seconds(200)
        let others = ConnectionTimers(configuration: configuration, now: start)
        #expect(others.tickInterval == .seconds(5) && others.stallTicks == 40)
    }
}
