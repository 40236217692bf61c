internal import NIOCore

/// One stream of a session: its number, what its owner keeps with it, and the bytes waiting to be sent.
package final class Stream {
    // Small ones first and together: there may be a hundred thousand streams that wait for hours.

    package let id: Int32
    /// Where the session keeps it.
    var slot: Int32 = 0
    /// Handed to the connection since `takeSentBytes` was called.
    private var sentBytes: UInt32 = 0
    /// Both sides have ended, or it was reset; set before `Event.closed` is seen.
    package internal(set) var isClosed = false
    /// The library was told that there is nothing to send, and waits for `resume`.
    var isDeferred = false
    /// Nothing follows what is queued, except the trailers.
    var isFinished = false
    /// The peer has ended its side.
    var isRemoteClosed = false
    /// Reset with NO_ERROR once the end of our side is sent (RFC 9113 section 8.1).
    var resetsAfterEnd = false

    /// For the session's user: whatever belongs to this stream.
    package var owner: AnyObject?
    /// Bytes written and not yet handed to the connection.
    package private(set) var queuedBytes = 0

    /// The first chunk stands outside the queue: a unary answer has one only.
    private var current: Chunk?
    private var rest: CircularBuffer<Chunk>?
    var trailers: OutboundHeaders?
    /// Tell the owner when no more than this many bytes are queued.
    var drainMark: UInt32?

    init(id: Int32) {
        self.id = id
    }

    /// Up to eight bytes sent before a buffer, kept without memory of their own.
    package struct Prefix {
        private var bytes: UInt64 = 0
        private(set) var count = 0

        package init() {}

        package mutating func append(_ byte: UInt8) {
            precondition(count < 8, "a prefix has eight bytes at most")
            bytes |= UInt64(byte) << (8 * UInt64(count))
            count += 1
        }

        mutating func removeFirst() -> UInt8 {
            let byte = UInt8(truncatingIfNeeded: bytes)
            bytes >>= 8
            count -= 1
            return byte
        }
    }

    private struct Chunk {
        var prefix: Prefix
        var buffer: ByteBuffer

        var count: Int { prefix.count + buffer.readableBytes }
    }

    func append(prefix: Prefix, _ buffer: ByteBuffer) -> Int {
        let chunk = Chunk(prefix: prefix, buffer: buffer)
        let count = chunk.count
        guard count > 0 else { return 0 }
        queuedBytes += count
        if current == nil {
            current = chunk
        } else {
            if rest == nil { rest = CircularBuffer() }
            rest?.append(chunk)
        }
        return count
    }

    /// Moves queued bytes into `target` and returns how many.
    func moveQueued(into target: UnsafeMutableRawBufferPointer) -> Int {
        var written = 0
        while written < target.count, current != nil {
            while written < target.count, current!.prefix.count > 0 {
                unsafe target[written] = current!.prefix.removeFirst()
                written += 1
            }
            let part = min(target.count - written, current!.buffer.readableBytes)
            if part > 0 {
                unsafe current!.buffer.readWithUnsafeReadableBytes { source in
                    unsafe UnsafeMutableRawBufferPointer(rebasing: target[written..<written + part])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<part]))
                    return part
                }
                written += part
            }
            if current!.count == 0 {
                current = rest?.popFirst()
                // A stream may be idle for hours.
                if current == nil { rest = nil }
            }
        }
        queuedBytes -= written
        // As much as it can hold: for hours nobody may ask.
        sentBytes = UInt32(clamping: Int(sentBytes) + written)
        return written
    }

    /// The number of written bytes that were handed to the connection since the last call.
    package func takeSentBytes() -> Int {
        defer { sentBytes = 0 }
        return Int(sentBytes)
    }

    func dropQueued() -> Int {
        defer { queuedBytes = 0 }
        current = nil
        rest = nil
        return queuedBytes
    }
}
