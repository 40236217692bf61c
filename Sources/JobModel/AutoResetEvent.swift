import Support
import Synchronization

/// An auto-reset event. A wake ends the wait of the one task that waits, or else the next wait. Several wakes
/// before that are coalesced.
package final class AutoResetEvent: Sendable {
    private struct State {
        var isSet = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    package init() {}

    package func wake() {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard let waiter = state.waiter else {
                state.isSet = true
                return nil
            }
            state.waiter = nil
            return waiter
        }
        waiter?.resume()
    }

    /// Returns at a wake, after `timeout`, or when the task is cancelled. One task at a time may wait.
    package func wait(atMost timeout: Duration, on runtime: EngineRuntime) async {
        if state.withLock({ $0.isSet.take() }) || Task.isCancelled { return }
        let timer = runtime.start { [self] in
            guard (try? await runtime.sleep(for: timeout)) != nil else { return }
            wake()
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isSet = state.withLock { state -> Bool in
                    if state.isSet.take() { return true }
                    state.waiter = continuation
                    return false
                }
                if isSet { continuation.resume() }
            }
        } onCancel: {
            wake()
        }
        timer.cancel()
    }
}
