import Glibc

/// Wakes a thread that waits in poll(2), by a pipe that contains a byte while a wake is pending.
final class Waker: Sendable {
    /// The end of the pipe that is readable while a wake is pending.
    let descriptor: Int32
    private let writeEnd: Int32

    init() throws(PostgresError) {
        var ends: [Int32] = [-1, -1]
        let result = unsafe pipe(&ends)
        for end in ends where result == 0 {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        guard result == 0 else { throw PostgresError(.resources, "pipe: error \(errno)") }
        (descriptor, writeEnd) = (ends[0], ends[1])
    }

    deinit {
        close(descriptor)
        close(writeEnd)
    }

    func wake() {
        // If the pipe is full, a wake is pending already.
        var byte: UInt8 = 1
        _ = unsafe write(writeEnd, &byte, 1)
    }

    /// Clears the pending wakes.
    func drain() {
        unsafe withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { buffer in
            while unsafe read(descriptor, buffer.baseAddress, 64) == 64 {}
        }
    }
}
