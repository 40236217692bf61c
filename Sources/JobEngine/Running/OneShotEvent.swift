import Synchronization

/// An event that happens at most once. Tasks can wait for it before and after.
package final class OneShotEvent: Sendable {
    private enum Waiter {
        case task(CheckedContinuation<Void, any Error>)
        case action(@Sendable () -> Void)
    }

    private struct State {
        var hasFired = false
        var waiters: [Int: Waiter] = [:]
        var lastWaiter = 0
    }

    private let state = Mutex(State())

    package func fire() {
        let waiters = state.withLock { state in
            state.hasFired = true
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values {
            switch waiter {
            case .task(let continuation): continuation.resume()
            case .action(let action): action()
            }
        }
    }

    package init() {}

    package var hasFired: Bool { state.withLock(\.hasFired) }

    /// Calls `action` when the event fires while `body` runs, or at once if it has fired. An action that has begun may still
    /// run when this returns.
    func calling<Value>(_ action: @escaping @Sendable () -> Void, while body: () async -> Value) async
        -> Value
    {
        let id: Int? = state.withLock { state in
            guard !state.hasFired else { return nil }
            state.lastWaiter += 1
            state.waiters[state.lastWaiter] = .action(action)
            return state.lastWaiter
        }
        guard let id else {
            action()
            return await body()
        }
        defer { state.withLock { _ = $0.waiters.removeValue(forKey: id) } }
        return await body()
    }

    /// Throws `CancellationError` when the task is cancelled first.
    package func wait() async throws {
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Void, any Error>) in
                let hasFired: Bool? = state.withLock { state in
                    if state.hasFired { return true }
                    if Task.isCancelled { return false }
                    state.waiters[id] = .task(continuation)
                    return nil
                }
                switch hasFired {
                case true?: continuation.resume()
                case false?: continuation.resume(throwing: CancellationError())
                case nil: break
                }
            }
        } onCancel: {
            if case .task(let continuation)? = state.withLock({ $0.waiters.removeValue(forKey: id) }) {
                continuation.resume(throwing: CancellationError())
            }
        }
    }
}
