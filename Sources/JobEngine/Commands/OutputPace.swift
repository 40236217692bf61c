/// The pace at which the output of one command is read: a token bucket of bytes and lines. Pure: times come in.
///
/// A command can write millions of lines a second, and each takes processor time here. A reader that has read too much
/// waits, and the command waits at its pipe (backpressure), so that it cannot take the node's time from other jobs.
package struct OutputPace: Sendable {
    /// Bytes a second, in the long run.
    package static let bytesPerSecond = 32 << 20
    /// The bytes that a line counts besides its own: about 10,000 lines a second are read.
    package static let bytesPerLine = 3 << 10
    /// The seconds whose bytes may be read at once, after a pause: about 40,000 lines.
    private static let burstSeconds = 4.0
    /// The lines after which a reader lets other tasks go on.
    package static let linesAtOnce = 64

    private var seconds = OutputPace.burstSeconds
    private var filledAt: ContinuousClock.Instant

    package init(now: ContinuousClock.Instant) {
        filledAt = now
    }

    /// - Returns: how long to wait before the next read.
    package mutating func read(bytes: Int, lines: Int, now: ContinuousClock.Instant) -> Duration {
        seconds = min(Self.burstSeconds, seconds + max(.zero, filledAt.duration(to: now)) / .seconds(1))
        filledAt = now
        seconds -= Double(bytes + lines * Self.bytesPerLine) / Double(Self.bytesPerSecond)
        return seconds < 0 ? .seconds(-seconds) : .zero
    }
}
