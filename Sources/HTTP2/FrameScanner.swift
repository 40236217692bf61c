/// Finds the frames in a peer's bytes and counts those that cost it nothing: SETTINGS, PING, PRIORITY, WINDOW_UPDATE,
/// GOAWAY, DATA without data, and frames of types that are not known. The library answers or ignores most of these
/// without a word, so nobody else sees a flood of them.
package struct FrameScanner: Sendable {
    /// Frames that cost their sender nothing since the beginning.
    package private(set) var overheadFrames = 0
    /// HEADERS since the beginning.
    package private(set) var headersFrames = 0

    /// Bytes of the preface or of a payload that are still to come.
    private var remaining: Int
    /// The frame header that is being received: its first eight bytes, as far as they are there.
    private var header: UInt64 = 0
    private var headerCount = 0

    /// The length of a frame header (RFC 9113 section 4.1).
    private static let headerBytes = 9
    private static let endStream: UInt8 = 0x1
    private static let padded: UInt8 = 0x8

    /// - Parameter prefaceBytes: what comes before the first frame: 24 from a client, nothing from a server.
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
            // The ninth byte is the last of the stream's number, which does not matter.
            if headerCount < 8 { header = unsafe header << 8 | UInt64(bytes[offset]) }
            offset += 1
            headerCount += 1
            guard headerCount == Self.headerBytes else { continue }
            headerCount = 0
            // Three bytes of length, one of type, one of flags, three of the stream's number.
            remaining = Int(header >> 40)
            count(
                type: UInt8(truncatingIfNeeded: header >> 32), flags: UInt8(truncatingIfNeeded: header >> 24))
            header = 0
        }
    }

    private mutating func count(type: UInt8, flags: UInt8) {
        switch type {
        case 0x0:
            // What ends a stream has a purpose. Nobody pads in earnest: a padded frame may be empty all the same.
            guard remaining == 0 && flags & Self.endStream == 0 || flags & Self.padded != 0 else { return }
        case 0x1:
            // Those that are the calls' are taken off again (`Session.headersIgnored`).
            headersFrames += 1
            return
        case 0x3, 0x5, 0x9:
            // RST_STREAM is the calls', PUSH_PROMISE is an error; the library limits CONTINUATION.
            return
        default:
            break
        }
        overheadFrames += 1
    }
}
