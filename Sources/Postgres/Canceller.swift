import CPQ

/// Asks the server to stop what a connection runs (libpq manual, 34.7). It goes there over a connection of its own.
//
// @unchecked is right: the object behind the pointer is written once, by `PQgetCancel`, and freed in `deinit`; in between
// only `PQcancel` reads it, which any thread may call at any time (libpq manual, 34.20).
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
