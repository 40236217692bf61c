import MetricsTestKit
import GRPC
import Synchronization
import TestDatabase
import Testing

@testable import SignalboxAPI

@Suite struct RefusalTests {
    private let start = ContinuousClock.now
    private func key(_ source: String, _ caller: String = "", reason: String = "expired") -> RefusalLog.Key {
        RefusalLog.Key(isOfConnection: false, reason: reason, source: source, caller: caller)
    }

    @Test func oneLineAMinute() {
        var log = RefusalLog()
        let key = key("192.0.2.1")
        #expect(log.add(key, method: "/a/B", now: start) == .init(key: key, method: "/a/B", count: 1))
        for second in 1..<60 {
            #expect(log.add(key, method: "/a/C", now: start + .seconds(second)) == nil)
            #expect(log.tick(now: start + .seconds(second)).isEmpty)
        }
        #expect(
            log.add(key, method: nil, now: start + .seconds(60)) == .init(key: key, method: nil, count: 60))
        #expect(log.add(key, method: nil, now: start + .seconds(119)) == nil)
    }

    @Test func whatEndsWithinTheMinuteIsLoggedAfterIt() {
        var log = RefusalLog()
        let key = key("192.0.2.1")
        for second in 0..<3 { _ = log.add(key, method: "/a/B", now: start + .seconds(second)) }
        #expect(log.tick(now: start + .seconds(59)).isEmpty)
        #expect(log.tick(now: start + .seconds(60)) == [.init(key: key, method: "/a/B", count: 2)])
        #expect(log.tick(now: start + .seconds(119)).isEmpty)
        // Forgotten then, and new.
        #expect(log.tick(now: start + .seconds(120)).isEmpty)
        #expect(log.add(key, method: nil, now: start + .seconds(121))?.count == 1)
    }

    @Test func sourcesCallersAndReasonsAreDistinguished() {
        var log = RefusalLog()
        var connection = key("a")
        connection.isOfConnection = true
        for key in [key("a"), key("b"), key("a", "ada"), key("a", reason: "revoked"), connection] {
            #expect(log.add(key, method: nil, now: start)?.key == key)
            #expect(log.add(key, method: nil, now: start) == nil)
        }
    }

    @Test func fromManyAddressesThereIsOneLineForTheRest() {
        var log = RefusalLog()
        let lines = (0..<5_000).compactMap { log.add(key("\($0)"), method: nil, now: start) }
        #expect(lines.count == RefusalLog.keysMax + 1)
        #expect(lines.last == .init(key: nil, method: nil, count: 1))
        let rest = 5_000 - RefusalLog.keysMax - 1
        #expect(log.tick(now: start + .seconds(60)) == [.init(key: nil, method: nil, count: rest)])
        // By then there is room again.
        #expect(log.add(key("new"), method: nil, now: start + .seconds(61))?.key == key("new"))
    }

    // MARK: Counters and lines

    @Test func refusalsAreCountedAndLogged() throws {
        let (lines, metrics) = (LogLines(), TestMetrics())
        let now = Mutex(start)
        let refusals = Refusals(logger: lines.logger, metrics: metrics) { now.withLock { $0 } }
        let call = Refusal(kind: .call, reason: "expired", method: "/a/B", source: "192.0.2.1")
        for _ in 0..<3 { refusals.refused(call) }
        refusals.refused(
            Refusal(kind: .call, reason: "permissionDenied", source: "2001:db8::/64", caller: "ada"))
        refusals.refused(Refusal(kind: .connection, reason: "evicted", source: ""))
        refusals.tick()
        now.withLock { $0 += .seconds(60) }
        refusals.tick()
        #expect(
            lines.all == [
                "call refused: address=192.0.2.1 caller=- count=1 method=/a/B reason=expired",
                "call refused: address=2001:db8::/64 caller=ada count=1 method=- reason=permissionDenied",
                "connection refused: address=- count=1 reason=evicted",
                "call refused: address=192.0.2.1 caller=- count=2 method=/a/B reason=expired",
            ])
        let calls = "signalbox_calls_refused_total"
        #expect(
            try metrics.expectCounter(calls, [("reason", "expired"), ("method", "/a/B")]).totalValue == 3)
        #expect(
            try metrics.expectCounter(calls, [("reason", "permissionDenied"), ("method", "none")]).totalValue
                == 1)
        #expect(
            try metrics.expectCounter("signalbox_connections_refused_total", [("reason", "evicted")])
                .totalValue == 1)
    }
}
