/// Decides which connect failures and successes are logged. Over all connections together, these are the first
/// failure of an outage, then one every 10 s, and the first success after them.
struct OutageLog {
    private static let interval = Duration.seconds(10)
    /// The time from which on the next failure is logged; nil while there is no outage.
    private var nextLineAt: ContinuousClock.Instant?

    mutating func connectFailed(now: ContinuousClock.Instant) -> Bool {
        if let nextLineAt, now < nextLineAt { return false }
        nextLineAt = now + Self.interval
        return true
    }

    mutating func connected() -> Bool {
        defer { nextLineAt = nil }
        return nextLineAt != nil
    }
}
