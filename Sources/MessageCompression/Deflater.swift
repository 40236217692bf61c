internal import CZlib
internal import NIOCore

/// One run of zlib's deflate.
@safe struct Deflater: ~Copyable {
    private static let level: CInt = 1

    /// The state of zlib, which keeps a pointer to it, so it must not move.
    private let stream: UnsafeMutablePointer<z_stream>

    init(_ coding: Coding) {
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        // This fails only if memory is out, or if the library has another version than its header.
        unsafe precondition(
            signalbox_deflate_init(stream, Self.level, coding.windowBits) == Z_OK,
            "zlib cannot be initialized")
    }

    deinit {
        unsafe deflateEnd(stream)
        unsafe stream.deinitialize(count: 1)
        unsafe stream.deallocate()
    }

    /// Compresses the bytes; nil if the result would not be smaller.
    borrowing func compress(_ bytes: ByteBuffer) -> ByteBuffer? {
        var output = ByteBuffer()
        let room = bytes.readableBytes - 1
        let isWhole = unsafe bytes.withUnsafeReadableBytes { input in
            // zlib's type is not const-correct, but it never writes to its input.
            let start = unsafe input.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe stream.pointee.next_in = unsafe UnsafeMutablePointer(mutating: start)
            unsafe stream.pointee.avail_in = CUnsignedInt(input.count)
            var status = Z_OK
            unsafe output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { target in
                unsafe stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
                unsafe stream.pointee.avail_out = CUnsignedInt(room)
                unsafe status = deflate(stream, Z_FINISH)
                return unsafe room - Int(stream.pointee.avail_out)
            }
            return status == Z_STREAM_END
        }
        return isWhole ? output : nil
    }
}
