import Glibc

/// Tells two versions of a file apart without reading them: by its device and inode (a new file may have been moved over
/// the old one, or a symbolic link may point elsewhere), its size, and its times of modification and change.
///
/// A file system's clock may tick as rarely as every 2 s: a file that was written twice within a tick can have one version.
struct FileVersion: Sendable, Equatable {
    private let device: UInt64
    private let inode: UInt64
    let bytes: Int64
    /// Nanoseconds since 1970.
    let modified: Int64
    private let changed: Int64

    init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        bytes = Int64(status.st_size)
        modified = Self.nanoseconds(status.st_mtim)
        changed = Self.nanoseconds(status.st_ctim)
    }

    /// The time by this machine's clock, in nanoseconds since 1970.
    static var now: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return nanoseconds(time)
    }

    private static func nanoseconds(_ time: timespec) -> Int64 {
        Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }
}
