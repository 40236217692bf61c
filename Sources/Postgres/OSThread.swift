import Glibc

/// A detached thread of the system, for code that blocks.
enum OSThread {
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

    static func start(_ run: @escaping @Sendable () -> Void) throws(PostgresError) {
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
            throw PostgresError(.resources, "pthread_create: error \(code)")
        }
    }
}
