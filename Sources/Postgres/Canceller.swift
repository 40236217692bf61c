import CPQ

/// Asks the server to stop what a connection runs (libpq manual, 34.7). It goes there over a connection of its own.
//
// Proof that @unchecked is right: `handle` is a constant. What it points to is written once, by `PQgetCancel` in `init`,
// before another thread can have this object, and shares nothing with the connection. After that it is only read, by
// `PQcancel`, which the manual allows on another thread than the connection's for that very reason (34.7). It is freed
// once, in `deinit`, when no reference is left and so no call of `cancel` runs.
@safe final class Canceller: @unchecked Sendable {
    private let handle: OpaquePointer

    /// Nil when memory is out.
    init?(_ connection: OpaquePointer) {
        guard let handle = unsafe PQgetCancel(connection) else { return nil }
        unsafe self.handle = unsafe handle
    }

    deinit {
        unsafe PQfreeCancel(handle)
    }

    /// Returns once the server has passed it on, or cannot be reached. Blocks, for as long as the network lets it: libpq
    /// has no timeout here.
    func cancel() {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { message in
            // Nothing to do about a failure: the statement has a timeout.
            _ = unsafe PQcancel(handle, message.baseAddress, Int32(message.count))
        }
    }
}
