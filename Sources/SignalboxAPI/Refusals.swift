package import Logging
package import Metrics
package import GRPC
import Synchronization

/// Counts what the server refuses, and writes it to the log (`RefusalLog`). Neither contains any part of a credential.
package final class Refusals: RefusalObserver {
    private struct CounterKey: Hashable {
        let kind: Refusal.Kind
        let reason: String
        let method: String
    }

    private struct State {
        var log = RefusalLog()
        /// One counter for each reason and method, so their number is bounded.
        var counters: [CounterKey: Counter] = [:]
    }

    private let logger: Logger
    private let metrics: any MetricsFactory
    private let now: @Sendable () -> ContinuousClock.Instant
    private let state = Mutex(State())

    package init(
        logger: Logger, metrics: any MetricsFactory = MetricsSystem.factory,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    ) {
        self.logger = logger
        self.metrics = metrics
        self.now = now
    }

    package func refused(_ refusal: Refusal) {
        let key = RefusalLog.Key(
            isOfConnection: refusal.kind == .connection, reason: refusal.reason, source: refusal.source,
            caller: refusal.caller)
        let now = now()
        let (counter, line) = state.withLock { state -> (Counter, RefusalLog.Line?) in
            let line = state.log.add(key, method: refusal.method, now: now)
            return (self.counter(of: refusal, &state.counters), line)
        }
        counter.increment()
        if let line { write(line) }
    }

    /// The interval at which `tick` is to be called.
    package static let tickInterval = Duration.seconds(5)

    /// Writes the lines for repeated refusals whose minute is over.
    package func tick() {
        let now = now()
        for line in state.withLock({ $0.log.tick(now: now) }) { write(line) }
    }

    private func counter(of refusal: Refusal, _ counters: inout [CounterKey: Counter]) -> Counter {
        let method = refusal.method ?? "none"
        let key = CounterKey(kind: refusal.kind, reason: refusal.reason, method: method)
        if let counter = counters[key] { return counter }
        let counter =
            switch refusal.kind {
            case .call:
                Counter(
                    label: "signalbox_calls_refused_total",
                    dimensions: [("reason", refusal.reason), ("method", method)], factory: metrics)
            case .connection:
                Counter(
                    label: "signalbox_connections_refused_total", dimensions: [("reason", refusal.reason)],
                    factory: metrics)
            }
        counters[key] = counter
        return counter
    }

    private func write(_ line: RefusalLog.Line) {
        guard let key = line.key else {
            return logger.info(
                "further calls or connections refused, from more addresses than are logged one by one",
                metadata: ["count": "\(line.count)"])
        }
        var metadata: Logger.Metadata = [
            "reason": "\(key.reason)", "count": "\(line.count)",
            "address": "\(key.source.isEmpty ? "-" : key.source)",
        ]
        if key.isOfConnection {
            logger.info("connection refused", metadata: metadata)
        } else {
            metadata["caller"] = "\(key.caller.isEmpty ? "-" : key.caller)"
            metadata["method"] = "\(line.method ?? "-")"
            logger.info("call refused", metadata: metadata)
        }
    }
}
