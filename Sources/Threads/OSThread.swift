import Glibc

/// A thread of the system, for code that blocks for long: a connection's loop, or a call that may take seconds.
///
/// A short blocking call, such as the read of a small file, needs no thread of its own: it runs on
/// `NIOThreadPool.singleton`, which has as many threads as there are cores.
package enum OSThread {
    private final class Body {
        let run: @Sendable () -> Void

        init(_ run: @escaping @Sendable () -> Void) {
            self.run = run
        }

        /// Takes over the reference that `start` passed, and runs the body.
        static func begin(_ context: UnsafeMutableRawPointer?) {
            guard let context = unsafe context else { return }
            let body = unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue()
            body.run()
        }
    }

    /// Starts a detached thread that ends when `run` returns. The caller bounds how many there are.
    package static func start(_ run: @escaping @Sendable () -> Void) throws(OSThreadError) {
        var attributes = pthread_attr_t()
        unsafe pthread_attr_init(&attributes)
        unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        defer { unsafe pthread_attr_destroy(&attributes) }
        let body = unsafe Unmanaged.passRetained(Body(run))
        var thread = pthread_t()
        let code = unsafe pthread_create(
            &thread, &attributes,
            { context in
                unsafe Body.begin(context)
                return nil
            }, body.toOpaque())
        guard code == 0 else {
            unsafe body.release()
            throw OSThreadError(code: code)
        }
    }

    /// Runs `body` on a new thread and returns its result. Cancelling the task does not shorten it.
    package static func run<Value: Sendable>(
        _ body: @escaping @Sendable () -> Value
    ) async throws(OSThreadError) -> Value {
        let result: Result<Value, OSThreadError> = await withCheckedContinuation { continuation in
            do throws(OSThreadError) {
                try start { continuation.resume(returning: .success(body())) }
            } catch {
                continuation.resume(returning: .failure(error))
            }
        }
        return try result.get()
    }
}

/// The system started no thread, because a limit on threads or on memory is reached (pthread_create(3)).
package struct OSThreadError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The error number, such as `EAGAIN`.
    package let code: Int32

    package var description: String {
        let reason = unsafe String(cString: strerror(code))
        return "the system cannot start a thread: \(reason): raise its limit on threads or on memory"
    }
}
