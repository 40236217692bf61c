internal import CZlib
package import NIOCore

/// A compression of messages (gRPC's compression.md).
package enum Coding: Sendable, Hashable, CaseIterable {
    /// The format of RFC 1952.
    case gzip
    /// The format of RFC 1950: deflate data with zlib's header, which HTTP also calls deflate.
    case deflate

    /// The name in `grpc-encoding`.
    package var name: String {
        switch self {
        case .gzip: "gzip"
        case .deflate: "deflate"
        }
    }

    /// The `windowBits` argument of zlib for the format, with the largest window (32 KiB).
    var windowBits: CInt {
        switch self {
        case .gzip: 15 + 16
        case .deflate: 15
        }
    }

    /// Compresses the bytes; nil if the result would not be smaller.
    ///
    /// It uses zlib's fastest level, because it runs on the thread that serves the connection.
    package func compress(_ bytes: ByteBuffer) -> ByteBuffer? {
        guard bytes.readableBytes > Self.overheadBytes, bytes.readableBytes <= Int(Int32.max) else {
            return nil
        }
        return Deflater(self).compress(bytes)
    }

    /// Decompresses the bytes. All of the input must be used.
    ///
    /// - Parameter bytesMax: the largest output. At most this much, and a chunk of 64 KiB, is ever allocated.
    package func decompress(
        _ bytes: ByteBuffer, bytesMax: Int
    ) throws(DecompressionError) -> ByteBuffer {
        try Inflater(self).decompress(bytes, bytesMax: bytesMax)
    }

    /// The size up to which compression is not worth a header and a checksum.
    private static let overheadBytes = 32
}

package enum DecompressionError: Error, Sendable, Equatable {
    /// The input is not in the format, is truncated, or has more bytes behind its end.
    case corrupt
    /// The output would be larger than allowed.
    case tooLarge
}
