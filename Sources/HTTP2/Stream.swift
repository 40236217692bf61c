internal import NIOCore

/// One stream of a session, with its number, its owner's data, and the bytes that wait to be sent.
package final class Stream {
    // Small properties come first and together, to save memory: a hundred thousand streams may wait for hours.

    package let id: Int32
    /// The index at which the session keeps it.
    var slot: Int32 = 0
    /// The bytes handed to the connection since the last call of `takeSentBytes`.
    private var sentBytes: UInt32 = 0
    /// Whether both sides have ended or the stream was reset. It is set before `Event.closed` is delivered.
    package internal(set) var isClosed = false
    /// Whether the library has deferred the stream because there is no data to send, and waits for `resume`.
    var isDeferred = false
    /// Whether only the trailers follow the queued bytes.
    var isFinished = false
    /// Whether the peer has ended its side.
    var isRemoteClosed = false
    /// Whether to reset the stream with NO_ERROR once our side has ended (RFC 9113 section 8.1).
    var resetsAfterEnd = false

    /// An object of the session's user that belongs to this stream.
    package var owner: AnyObject?
    /// The bytes that were written and not yet handed to the connection.
    package private(set) var queuedBytes = 0

    /// The first chunk. It is kept outside the queue, because a unary response has only one.
    private var current: Chunk?
    private var rest: CircularBuffer<Chunk>?
    var trailers: OutboundHeaders?
    /// The number of queued bytes at which the owner is notified; nil: it is not.
    var drainMark: UInt32?

    init(id: Int32) {
        self.id = id
    }

    /// Up to eight bytes that are sent before a buffer. They need no allocation.
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
                // The memory is freed, because the stream may be idle for hours.
                if current == nil { rest = nil }
            }
        }
        queuedBytes -= written
        // Clamped, because `takeSentBytes` may not be called for hours.
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
