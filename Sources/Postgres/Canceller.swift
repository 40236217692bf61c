import CPQ

/// Asks the server to stop what a connection runs (libpq manual, 34.7). It goes there over a connection of its own.
//
// @unchecked is right: the pointer never changes, and the object behind it is written once, by `PQgetCancel`, before
// anybody else can have this. From then on it is read only, by `PQcancel`, which may be called on another thread than the
// connection's for that very reason (libpq manual, 34.7); and freed in `deinit`, when nobody calls any more.
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
