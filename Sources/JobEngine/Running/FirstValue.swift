import Synchronization

/// The first of several values that may come from different tasks. One task waits for it, also when it is cancelled.
final class FirstValue<Value: Sendable>: Sendable {
    private enum State {
        case empty
        case awaited(CheckedContinuation<Value, Never>)
        case set(Value)
        case taken
    }

    private let state = Mutex(State.empty)

    /// Has no effect after the first call.
    func set(_ value: Value) {
        let waiter: CheckedContinuation<Value, Never>? = state.withLock { state in
            switch state {
            case .empty: state = .set(value)
            case .awaited(let waiter):
                state = .taken
                return waiter
            case .set, .taken: break
            }
            return nil
        }
        waiter?.resume(returning: value)
    }

    /// To be called once.
    func get() async -> Value {
        await withCheckedContinuation { continuation in
            let value: Value? = state.withLock { state in
                switch state {
                case .empty: state = .awaited(continuation)
                case .set(let value):
                    state = .taken
                    return value
                case .awaited, .taken: preconditionFailure("the value was asked for twice")
                }
                return nil
            }
            if let value { continuation.resume(returning: value) }
        }
    }
}
