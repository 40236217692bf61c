// Yams brings Foundation, and with it this module claims the C structs of the system for itself.
internal import CoreFoundation
internal import JobModel
import Glibc
import SystemFiles

/// A file that is polled and read again when it has changed. Polling blocks, so its caller runs on a thread that may.
///
/// After the first read, new contents are accepted when two polls in a row find them (debounce): the file may still be
/// being written, and a truncated file may be valid and mean something else.
struct WatchedFile: Sendable {
    enum Reading {
        case unchanged
        case changed([UInt8])
        /// A problem as text to follow the file's name. It is reported by every poll until the file can be
        /// read.
        case failed(String)
    }

    /// A file system's clock may tick this rarely: what was written since has the same times.
    private static let settlingTime = Duration.seconds(2)

    let path: String
    let bytesMax: Int
    private var version: FileVersion?
    private var hash: SHA256Hash?
    /// The hash of the contents at the last poll. They are accepted if the next poll finds the same (debounce).
    private var candidate: SHA256Hash?
    private var isFirst = true
    /// Whether the file was old enough when it was read that any later change shows in its version.
    private var isSettled = false

    init(path: String, bytesMax: Int) {
        self.path = path
        self.bytesMax = bytesMax
    }

    mutating func read(now: Timestamp) -> Reading {
        // Non-blocking, because opening a named pipe that has no writer would block for ever.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return fail("cannot be read: \(Self.reason)") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return fail("cannot be read: \(Self.reason)") }
        guard status.st_mode & S_IFMT == S_IFREG else { return fail("is not a file") }
        // Before it is read: a change meanwhile shows the next time.
        let current = FileVersion(status)
        if current == version, isSettled, candidate == nil { return .unchanged }

        var bytes = [UInt8](repeating: 0, count: min(max(Int(current.bytes), 0), bytesMax) + 1)
        var count = 0
        while count < bytes.count {
            let offset = count
            let got = bytes.withUnsafeMutableBytes { buffer in
                Glibc.read(descriptor, buffer.baseAddress! + offset, buffer.count - offset)
            }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { return fail("cannot be read: \(Self.reason)") }
            if got == 0 { break }
            count += got
        }
        guard count <= bytesMax else { return fail("is larger than \(bytesMax) bytes") }
        bytes.removeSubrange(count...)

        version = current
        let age = now.microseconds - current.modified / 1000
        isSettled = age > Self.settlingTime.microseconds
        let hash = SHA256Hash(of: bytes)
        if hash == self.hash {
            candidate = nil
            return .unchanged
        }
        guard isFirst || hash == candidate else {
            candidate = hash
            return .unchanged
        }
        (isFirst, candidate) = (false, nil)
        self.hash = hash
        return .changed(bytes)
    }

    /// Forgets the contents, so that the file counts as changed when it can be read again.
    private mutating func fail(_ problem: String) -> Reading {
        version = nil
        hash = nil
        candidate = nil
        return .failed(problem)
    }

    private static var reason: String { String(cString: strerror(errno)) }
}
