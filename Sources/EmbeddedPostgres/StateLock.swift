import Glibc

/// Locks the state directory for one process, until the lock is released or the process ends for any reason.
final class StateLock: Sendable {
    private let descriptor: Int32

    init(_ directory: StateDirectory) throws {
        // The descriptor is not inherited, because a server that held the lock would keep it after the end of
        // this process. The file is not changed before it is known to be ours, and locked.
        let descriptor = unsafe open(
            directory.lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            let reason = Self.lastError()
            // If the file cannot be opened, for example because it is a link, this check gives a better message.
            try FileStatus.find(directory.lock)?.checkIsFile()
            throw EmbeddedPostgresError(.stateDirectory, "cannot open \(directory.lock): \(reason)")
        }
        do {
            try FileStatus.of(descriptor, directory.lock).checkIsFile()
        } catch {
            close(descriptor)
            throw error
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            defer { close(descriptor) }
            guard errno == EWOULDBLOCK else {
                throw EmbeddedPostgresError(
                    .stateDirectory, "cannot lock \(directory.lock): \(Self.lastError())")
            }
            let holder = Self.holder(descriptor).map { "process \($0)" } ?? "another process"
            throw EmbeddedPostgresError(
                .inUse, "the state directory \(directory.path) is in use by \(holder)")
        }
        self.descriptor = descriptor
        // The process id is for the message above; the lock does not depend on it.
        let text = [UInt8]("\(getpid())\n".utf8)
        ftruncate(descriptor, 0)
        _ = unsafe pwrite(descriptor, text, text.count, 0)
    }

    deinit {
        // A child that is being started has a copy of the descriptor until it executes its program. Closing only
        // ours would leave the directory locked until then.
        flock(descriptor, LOCK_UN)
        close(descriptor)
    }

    private static func holder(_ descriptor: Int32) -> Int32? {
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = unsafe pread(descriptor, &bytes, bytes.count, 0)
        return Int32(String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).trimmingSpace)
    }

    static func lastError() -> String {
        unsafe String(cString: strerror(errno))
    }
}
