import Glibc

/// A file that is polled about twice a second, and read again when it has changed. Polling blocks, so its caller runs on
/// a thread that may.
///
/// After the first read, new contents are accepted when two polls in a row find them (debounce): the file may still be
/// being written, and a truncated file may be valid and mean something else.
package struct WatchedFile: Sendable {
    package enum Reading: Sendable, Equatable {
        case unchanged
        case changed([UInt8])
        /// A problem as text to follow the file's name. It is reported by every poll until the file can be
        /// read.
        case failed(String)
    }

    /// A file system's clock may tick as rarely as this, in nanoseconds: what was written since has the same times.
    private static let settlingTime: Int64 = 2_000_000_000

    package let path: String
    private let bytesMax: Int
    private var version: FileVersion?
    /// The contents that were accepted last.
    private var contents: [UInt8]?
    /// The contents at the last poll. They are accepted if the next poll finds the same.
    private var candidate: [UInt8]?
    private var isFirst = true
    /// Whether the file was old enough when it was read that any later change shows in its version.
    private var isSettled = false

    /// - Parameter bytesMax: the largest size of the file. Twice as much may be held in memory.
    package init(path: String, bytesMax: Int) {
        self.path = path
        self.bytesMax = bytesMax
    }

    package mutating func read() -> Reading {
        // Non-blocking, because opening a named pipe that has no writer would block for ever.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return fail("cannot be read: \(Self.reason)") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return fail("cannot be read: \(Self.reason)") }
        guard status.st_mode & S_IFMT == S_IFREG else { return fail("is not a file") }
        // The version is taken before the file is read, so that the next poll sees a change that happens meanwhile.
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
        isSettled = FileVersion.now - current.modified > Self.settlingTime
        return accept(bytes)
    }

    private mutating func accept(_ bytes: [UInt8]) -> Reading {
        if bytes == contents {
            candidate = nil
            return .unchanged
        }
        guard isFirst || bytes == candidate else {
            candidate = bytes
            return .unchanged
        }
        (isFirst, candidate) = (false, nil)
        contents = bytes
        return .changed(bytes)
    }

    /// Forgets the contents, so that the file counts as changed when it can be read again.
    private mutating func fail(_ problem: String) -> Reading {
        version = nil
        contents = nil
        candidate = nil
        return .failed(problem)
    }

    private static var reason: String { String(cString: strerror(errno)) }
}
