internal import CZlib
internal import NIOCore

/// One run of zlib's inflate.
@safe struct Inflater: ~Copyable {
    private static let chunkBytes = 64 * 1024

    /// The state of zlib, which keeps a pointer to it, so it must not move.
    private let stream: UnsafeMutablePointer<z_stream>

    init(_ coding: Coding) {
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        // This fails only if memory is out, or if the library has another version than its header.
        unsafe precondition(
            signalbox_inflate_init(stream, coding.windowBits) == Z_OK, "zlib cannot be initialized")
    }

    deinit {
        unsafe inflateEnd(stream)
        unsafe stream.deinitialize(count: 1)
        unsafe stream.deallocate()
    }

    borrowing func decompress(
        _ bytes: ByteBuffer, bytesMax: Int
    ) throws(DecompressionError) -> ByteBuffer {
        var output = ByteBuffer()
        let result: Result<Void, DecompressionError> = unsafe bytes.withUnsafeReadableBytes { input in
            // zlib's type is not const-correct, but it never writes to its input.
            let start = unsafe input.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe stream.pointee.next_in = unsafe UnsafeMutablePointer(mutating: start)
            unsafe stream.pointee.avail_in = CUnsignedInt(input.count)
            var status = Z_OK
            while status == Z_OK {
                let room = min(Self.chunkBytes, bytesMax - output.readableBytes + 1)
                unsafe output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { target in
                    unsafe stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
                    unsafe stream.pointee.avail_out = CUnsignedInt(room)
                    unsafe status = inflate(stream, Z_NO_FLUSH)
                    return unsafe room - Int(stream.pointee.avail_out)
                }
                if output.readableBytes > bytesMax { return .failure(.tooLarge) }
            }
            let isWhole = unsafe status == Z_STREAM_END && stream.pointee.avail_in == 0
            return isWhole ? .success(()) : .failure(.corrupt)
        }
        try result.get()
        return output
    }
}
