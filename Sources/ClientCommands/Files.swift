import FoundationEssentials
import NIOPosix

import Glibc

struct FileError: Error, CustomStringConvertible {
    let description: String
}

/// Reads and writes files that the user names, on threads that may block.
enum Files {
    /// Reads at most `bytesMax` bytes of a file, or of standard input when the path is `-`. A larger file is an
    /// error.
    static func read(_ path: String, bytesMax: Int) async throws -> [UInt8] {
        try await NIOThreadPool.singleton.runIfActive {
            let descriptor = path == "-" ? 0 : unsafe open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw failure("cannot open '\(path.printable)'") }
            defer { if path != "-" { close(descriptor) } }
            var bytes: [UInt8] = []
            let chunk = 64 << 10
            while bytes.count <= bytesMax {
                var count = 0
                let more = try unsafe [UInt8](unsafeUninitializedCapacity: chunk) { buffer, used in
                    repeat {
                        count = unsafe readSome(descriptor, buffer.baseAddress!, chunk)
                    } while count < 0 && errno == EINTR
                    if count < 0 { throw failure("cannot read '\(path.printable)'") }
                    used = count
                }
                if count == 0 { return bytes }
                bytes += more
            }
            throw FileError(description: "'\(path.printable)' is longer than \(bytesMax) bytes")
        }
    }

    /// Writes a file, or to standard output when the path is `-`.
    static func write(_ bytes: [UInt8], to path: String) async throws {
        if path == "-" { return try Terminal.write(bytes) }
        try await NIOThreadPool.singleton.runIfActive {
            do {
                try Data(bytes).write(to: URL(filePath: path))
            } catch {
                throw FileError(description: "cannot write '\(path.printable)': \(error)")
            }
        }
    }

    private static func readSome(_ descriptor: Int32, _ target: UnsafeMutableRawPointer, _ count: Int) -> Int
    {
        unsafe Glibc.read(descriptor, target, count)
    }

    private static func failure(_ what: String) -> FileError {
        let reason = unsafe String(cString: strerror(errno))
        return FileError(description: "\(what): \(reason)")
    }
}
