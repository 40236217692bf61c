/// How long to wait before connecting again: doubling from 100 ms to 2 s, each time between half and all of it,
/// so that many clients do not come back together.
struct Backoff {
    private static let initial = Duration.milliseconds(100)
    private static let limit = Duration.seconds(2)
    private var ceiling = initial

    mutating func next(using random: inout some RandomNumberGenerator) -> Duration {
        defer { ceiling = min(ceiling * 2, Self.limit) }
        return ceiling * Double.random(in: 0.5...1, using: &random)
    }

    mutating func next() -> Duration {
        var random = SystemRandomNumberGenerator()
        return next(using: &random)
    }

    mutating func reset() {
        ceiling = Self.initial
    }
}
