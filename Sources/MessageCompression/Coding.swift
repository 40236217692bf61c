internal import CZlib
package import NIOCore

/// A compression of messages (gRPC's compression.md).
package enum Coding: Sendable, Hashable, CaseIterable {
    /// RFC 1952.
    case gzip
    /// RFC 1950: deflate's data with zlib's header, as HTTP calls it too.
    case deflate

    /// The name in `grpc-encoding`.
    package var name: String {
        switch self {
        case .gzip: "gzip"
        case .deflate: "deflate"
        }
    }

    /// zlib's number for the format, with the largest window (32 KiB).
    var windowBits: CInt {
        switch self {
        case .gzip: 15 + 16
        case .deflate: 15
        }
    }

    /// The bytes compressed; nil when that would take no fewer of them.
    ///
    /// At zlib's fastest level: it is done on the thread that serves the connection.
    package func compress(_ bytes: ByteBuffer) -> ByteBuffer? {
        guard bytes.readableBytes > Self.overheadBytes, bytes.readableBytes <= Int(Int32.max) else {
            return nil
        }
        return Deflater(self).compress(bytes)
    }

    /// The bytes as they were, all of the input used.
    ///
    /// - Parameter bytesMax: what comes out at most; no more than that, and a chunk of 64 KiB, is ever allocated.
    package func decompress(
        _ bytes: ByteBuffer, bytesMax: Int
    ) throws(DecompressionError) -> ByteBuffer {
        try Inflater(self).decompress(bytes, bytesMax: bytesMax)
    }

    /// Less than this is not worth a header and a checksum.
    private static let overheadBytes = 32
}

package enum DecompressionError: Error, Sendable, Equatable {
    /// Not in the format, cut short, or with more behind its end.
    case corrupt
    /// It would be more than is allowed.
    case tooLarge
}
