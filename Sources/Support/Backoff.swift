/// The delays between attempts, with equal jitter: the nominal delay doubles from `initial` to `most`, and each delay is
/// drawn between half of it and all of it, so that callers that failed together do not retry together.
package struct Backoff: Sendable {
    package let initial: Duration
    package let most: Duration
    private var nominal: Duration

    /// - Parameters:
    ///   - initial: positive.
    ///   - most: at least `initial`.
    package init(initial: Duration, most: Duration) {
        self.initial = initial
        self.most = most
        nominal = initial
    }

    /// - Parameter random: in 0 ..< 1.
    package mutating func next(random: Double = .random(in: 0..<1)) -> Duration {
        defer { nominal = min(nominal * 2, most) }
        return nominal * (0.5 + random / 2)
    }

    /// To be called after a success.
    package mutating func reset() {
        nominal = initial
    }
}
