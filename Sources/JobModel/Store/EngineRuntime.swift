package import FoundationEssentials

/// Everything that the engine takes from its surroundings besides its store: clocks, random numbers, and where its
/// tasks run. Production uses those of the system. A simulation puts in its own, and the same seed then gives the same
/// run, in every process: the order of a dictionary decides nothing in the engine.
package struct EngineRuntime: Sendable {
    private let clock: @Sendable () -> ContinuousClock.Instant
    private let calendar: @Sendable () -> Timestamp
    private let sleeper: @Sendable (Duration) async throws -> Void
    private let generator: @Sendable () -> UInt64
    /// Unstructured tasks do not inherit the executor of the task that starts them, so `start` names it. Nil: the
    /// global one.
    private let executor: (any TaskExecutor)?

    /// - Parameters:
    ///   - now: a clock that never goes back.
    ///   - date: the time of day, which may.
    ///   - sleep: throws when the task is cancelled.
    ///   - random: 64 uniformly distributed bits.
    ///   - executor: runs the engine's unstructured tasks.
    package init(
        now: @escaping @Sendable () -> ContinuousClock.Instant, date: @escaping @Sendable () -> Timestamp,
        sleep: @escaping @Sendable (Duration) async throws -> Void,
        random: @escaping @Sendable () -> UInt64, executor: (any TaskExecutor)?
    ) {
        clock = now
        calendar = date
        sleeper = sleep
        generator = random
        self.executor = executor
    }

    package static let system = EngineRuntime(
        now: { .now }, date: { .now }, sleep: { try await Task.sleep(for: $0) },
        random: { .random(in: .min ... .max) }, executor: nil)

    package func now() -> ContinuousClock.Instant { clock() }

    package func date() -> Timestamp { calendar() }

    /// Throws `CancellationError` when the task is cancelled.
    package func sleep(for duration: Duration) async throws { try await sleeper(duration) }

    /// In 0 ..< 1. With the system's runtime it costs a system call.
    package func random() -> Double { Double(generator() >> 11) * 0x1p-53 }

    /// A UUID of version 4.
    package func uuid() -> UUID {
        let (high, low) = (generator(), generator())
        return UUID(
            uuid: (
                UInt8(truncatingIfNeeded: high >> 56), UInt8(truncatingIfNeeded: high >> 48),
                UInt8(truncatingIfNeeded: high >> 40), UInt8(truncatingIfNeeded: high >> 32),
                UInt8(truncatingIfNeeded: high >> 24), UInt8(truncatingIfNeeded: high >> 16),
                UInt8(truncatingIfNeeded: high >> 8) & 0x0F | 0x40, UInt8(truncatingIfNeeded: high),
                UInt8(truncatingIfNeeded: low >> 56) & 0x3F | 0x80, UInt8(truncatingIfNeeded: low >> 48),
                UInt8(truncatingIfNeeded: low >> 40), UInt8(truncatingIfNeeded: low >> 32),
                UInt8(truncatingIfNeeded: low >> 24), UInt8(truncatingIfNeeded: low >> 16),
                UInt8(truncatingIfNeeded: low >> 8), UInt8(truncatingIfNeeded: low)
            ))
    }

    /// Starts an unstructured task. The engine starts all of its here.
    @discardableResult
    package func start<Value: Sendable>(
        _ body: @escaping @Sendable () async -> Value
    ) -> Task<Value, Never> {
        Task(executorPreference: executor, operation: body)
    }
}
