package import FoundationEssentials

/// The engine's environment except its store: clocks, random numbers, and the executor of its tasks. Production
/// uses those of the system. A simulation provides its own, and the same seed then gives the same run in every
/// process, because the engine never depends on the order of a dictionary.
package struct EngineRuntime: Sendable {
    private let clock: @Sendable () -> ContinuousClock.Instant
    private let calendar: @Sendable () -> Timestamp
    private let sleeper: @Sendable (Duration) async throws -> Void
    private let generator: @Sendable () -> UInt64
    /// The executor for `start`, because unstructured tasks do not inherit the executor of the task that starts
    /// them. Nil: the global one.
    private let executor: (any TaskExecutor)?

    /// - Parameters:
    ///   - now: a clock that never goes back.
    ///   - date: the time of day, which may go back.
    ///   - sleep: waits; throws when the task is cancelled.
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

    /// Waits. Throws `CancellationError` when the task is cancelled.
    package func sleep(for duration: Duration) async throws { try await sleeper(duration) }

    /// A random number in 0 ..< 1. With the system's runtime it costs a system call.
    package func random() -> Double { Double(generator() >> 11) * 0x1p-53 }

    /// A random UUID of version 4.
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

    /// Starts an unstructured task. The engine starts all its unstructured tasks by this function.
    @discardableResult
    package func start<Value: Sendable>(
        _ body: @escaping @Sendable () async -> Value
    ) -> Task<Value, Never> {
        Task(executorPreference: executor, operation: body)
    }
}
