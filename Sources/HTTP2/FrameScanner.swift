/// Finds the frames in a peer's bytes and counts the overhead frames, which cost their sender nothing: SETTINGS,
/// PING, PRIORITY, WINDOW_UPDATE, GOAWAY, DATA without data, and frames of unknown types. The library answers or
/// ignores most of them silently, so a flood of them cannot be seen in any other way.
package struct FrameScanner: Sendable {
    /// The number of overhead frames since the beginning.
    package private(set) var overheadFrames = 0
    /// The number of HEADERS frames since the beginning.
    package private(set) var headersFrames = 0

    /// The number of bytes of the preface or of a payload that are still to come.
    private var remaining: Int
    /// The frame header that is being received: the part of its first eight bytes that has arrived.
    private var header: UInt64 = 0
    private var headerCount = 0

    /// The length of a frame header (RFC 9113 section 4.1).
    private static let headerBytes = 9
    private static let endStream: UInt8 = 0x1
    private static let padded: UInt8 = 0x8

    /// - Parameter prefaceBytes: the bytes before the first frame: 24 from a client, none from a server.
    package init(prefaceBytes: Int) {
        remaining = prefaceBytes
    }

    package mutating func scan(_ bytes: UnsafeRawBufferPointer) {
        var offset = 0
        while offset < bytes.count {
            if remaining > 0 {
                let step = min(remaining, bytes.count - offset)
                offset += step
                remaining -= step
                continue
            }
            // The ninth byte is the last one of the stream's number, which is not needed.
            if headerCount < 8 { header = unsafe header << 8 | UInt64(bytes[offset]) }
            offset += 1
            headerCount += 1
            guard headerCount == Self.headerBytes else { continue }
            headerCount = 0
            // The bytes are three of length, one of type, one of flags, and three of the stream's number.
            remaining = Int(header >> 40)
            count(
                type: UInt8(truncatingIfNeeded: header >> 32), flags: UInt8(truncatingIfNeeded: header >> 24))
            header = 0
        }
    }

    private mutating func count(type: UInt8, flags: UInt8) {
        switch type {
        case 0x0:
            // An empty frame that ends a stream has a purpose. Padding has none in practice, and a padded frame
            // may be empty, so every padded frame counts.
            guard remaining == 0 && flags & Self.endStream == 0 || flags & Self.padded != 0 else { return }
        case 0x1:
            // HEADERS of calls are subtracted again (`Session.headersIgnored`).
            headersFrames += 1
            return
        case 0x3, 0x5, 0x9:
            // RST_STREAM has a limit of its own (`resetsBurst`), PUSH_PROMISE is an error, and the library limits
            // CONTINUATION.
            // CONTINUATION.
            return
        default:
            break
        }
        overheadFrames += 1
    }
}
