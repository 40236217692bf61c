package import Glibc

/// Tells two versions of a file apart without reading them: by its device and inode (a new file may have been moved over
/// the old one, or a symbolic link may point elsewhere), its size, and its times of modification and change.
///
/// A file system's clock may tick as rarely as every 2 s: a file that was written twice within a tick can have one version.
package struct FileVersion: Sendable, Equatable {
    private let device: UInt64
    private let inode: UInt64
    package let bytes: Int64
    /// Nanoseconds since 1970.
    package let modified: Int64
    private let changed: Int64

    package init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        bytes = Int64(status.st_size)
        modified = Self.nanoseconds(status.st_mtim)
        changed = Self.nanoseconds(status.st_ctim)
    }

    /// The version of the file at a path, which may be a symbolic link. Nil: there is no file, or it cannot be reached.
    package init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        self.init(status)
    }

    private static func nanoseconds(_ time: timespec) -> Int64 {
        Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }
}
