import CPQ

/// Asks the server to stop the statement that a connection runs (libpq manual, 34.7), over a connection of its own.
//
// Proof that `@unchecked Sendable` is right. The one property, `handle`, is a constant, and what it points to
// - is written once, by `PQgetCancel` in `init`, before another thread can have this object;
// - shares nothing with the connection: it is a copy of what is needed to reach the server;
// - is only read after that: `PQcancel` treats it as read-only, so any thread may call it (libpq manual, 34.7);
// - is freed once, by `deinit`, which never runs at the same time as a `cancel`: each holds this object until
//   `PQcancel` has returned.
@safe
final class Canceller: @unchecked Sendable {  // Right: one constant, only read. The proof is above.
    private let handle: OpaquePointer

    /// Nil when memory is out.
    init?(_ connection: OpaquePointer) {
        guard let handle = unsafe PQgetCancel(connection) else { return nil }
        unsafe self.handle = unsafe handle
    }

    deinit {
        unsafe PQfreeCancel(handle)
    }

    /// Returns once the server has received the request or cannot be reached. It blocks for as long as the network does,
    /// because libpq has no timeout here.
    func cancel() {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { message in
            // Keeps this object alive until the call returns, because `handle` is freed with it.
            withExtendedLifetime(self) {
                // A failure is ignored, because the statement has a timeout.
                _ = unsafe PQcancel(handle, message.baseAddress, Int32(message.count))
            }
        }
    }
}
