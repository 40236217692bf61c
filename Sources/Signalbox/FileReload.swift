import NIOPosix
import Synchronization

/// Reads files again on the thread pool, at most one read at a time: while one hangs, no further one is started.
final class FileReload: Sendable {
    private let pool: NIOThreadPool
    private let read: @Sendable () -> Void
    private let isInFlight = Mutex(false)

    /// - Parameter read: reads the files. It may block.
    init(pool: NIOThreadPool = .singleton, _ read: @escaping @Sendable () -> Void) {
        self.pool = pool
        self.read = read
    }

    /// Starts a read unless one is in flight, and returns at once.
    func start() {
        let isFree = isInFlight.withLock { isInFlight in
            defer { isInFlight = true }
            return !isInFlight
        }
        guard isFree else { return }
        pool.submit { [self] state in
            if case .active = state { read() }
            isInFlight.withLock { $0 = false }
        }
    }
}
