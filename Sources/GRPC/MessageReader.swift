internal import HTTP2
internal import MessageCompression
internal import NIOCore

/// Cuts messages out of a stream's bytes: a flag byte, four bytes of length, the message (PROTOCOL-HTTP2.md,
/// "Length-Prefixed-Message"). Messages stay in it until they are taken, so that the peer's window is given back
/// only for what was taken, or is needed to complete the next message.
struct MessageReader {
    /// Of a message, as it comes and when it is decompressed.
    let messageBytesMax: Int
    /// How messages are compressed whose first byte says so; nil: none may be.
    let coding: Coding?
    /// Shares memory with the bytes received where a message lies whole in them.
    let sharesMemory: Bool

    private(set) var buffer = ByteBuffer()
    /// Of the message last taken.
    private(set) var wasCompressed = false
    /// Bytes received for which the window has not been given back.
    private var withheldBytes = 0
    /// The window is given back in steps, not for each small message.
    private static let windowStepBytes = 16 * 1024

    init(messageBytesMax: Int, sharesMemory: Bool, coding: Coding? = nil) {
        self.messageBytesMax = messageBytesMax
        self.coding = coding
        self.sharesMemory = sharesMemory
    }

    var isEmpty: Bool { bufferedBytes == 0 }
    var bufferedBytes: Int { buffer.readableBytes }

    mutating func append(_ bytes: ByteBuffer) {
        withheldBytes += bytes.readableBytes
        if buffer.readableBytes == 0 && sharesMemory {
            buffer = bytes
        } else {
            var bytes = bytes
            if buffer.readableBytes == 0 {
                buffer.clear()
            } else if buffer.readerIndex > buffer.readableBytes {
                // Otherwise a peer that always begins its next message with its last would have every byte kept.
                // Moving less than was read makes it cheap.
                buffer.discardReadBytes()
            }
            buffer.writeBuffer(&bytes)
        }
    }

    /// What is in it stays for longer than the bytes that it came with.
    mutating func keep() {
        buffer = buffer.kept
    }

    /// Is the next message complete, and is it allowed at all? Nothing is read of a message over the limit
    /// beyond its prefix.
    func check() -> Result<Int?, Status> {
        guard let flag = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self) else {
            return .success(nil)
        }
        guard flag == 0 || flag == 1 && coding != nil else {
            // Encodings that are not known were refused with the headers.
            return .failure(
                Status(
                    .internalError,
                    flag == 1
                        ? "a compressed message without a grpc-encoding"
                        : "the first byte of a message is not 0 or 1"
                ))
        }
        guard let length = buffer.getInteger(at: buffer.readerIndex + 1, as: UInt32.self) else {
            return .success(nil)
        }
        guard length <= messageBytesMax else {
            return .failure(
                Status(
                    .resourceExhausted, "a message of \(length) bytes is over the limit of \(messageBytesMax)"
                ))
        }
        return .success(buffer.readableBytes >= 5 + Int(length) ? Int(length) : nil)
    }

    /// The next message if it is complete.
    mutating func next() -> Result<ByteBuffer?, Status> {
        switch check() {
        case .failure(let status):
            return .failure(status)
        case .success(nil):
            return .success(nil)
        case .success(.some(let length)):
            wasCompressed = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self) == 1
            buffer.moveReaderIndex(forwardBy: 5)
            if wasCompressed { return decompress(length: length).map { $0 } }
            if sharesMemory {
                let message = buffer.readSlice(length: length)
                if buffer.readableBytes == 0 { buffer = ByteBuffer() }
                return .success(message)
            }
            // A copy of just its size: the caller may keep it for hours.
            let message = ByteBuffer(bytes: buffer.readableBytesView.prefix(length))
            buffer.moveReaderIndex(forwardBy: length)
            // Nor does an idle call keep room for the next one.
            if buffer.readableBytes == 0 { buffer = ByteBuffer() }
            return .success(message)
        }
    }

    /// The next bytes, which are compressed.
    private mutating func decompress(length: Int) -> Result<ByteBuffer, Status> {
        guard let coding, let compressed = buffer.readSlice(length: length) else {
            preconditionFailure("check() has found the message whole and its encoding known")
        }
        if buffer.readableBytes == 0 { buffer = ByteBuffer() }
        do throws(DecompressionError) {
            return .success(try coding.decompress(compressed, bytesMax: messageBytesMax))
        } catch {
            switch error {
            case .corrupt:
                return .failure(
                    Status(.internalError, "message cannot be decompressed with its declared encoding"))
            case .tooLarge:
                return .failure(
                    Status(
                        .resourceExhausted,
                        "a message is over the limit of \(messageBytesMax) bytes when it is decompressed"))
            }
        }
    }

    /// How much of the peer's window to give back now.
    mutating func takeReleasedBytes() -> Int {
        guard withheldBytes >= Self.windowStepBytes else { return 0 }
        let released: Int
        if case .success(.some) = check() {
            released = withheldBytes - buffer.readableBytes
        } else {
            released = withheldBytes
        }
        guard released >= Self.windowStepBytes else { return 0 }
        withheldBytes -= released
        return released
    }
}

extension ByteBuffer {
    /// The same bytes in memory of about their size: those that were received may lie in a buffer of very many, which
    /// lives as long as any of them.
    var kept: ByteBuffer {
        storageCapacity <= 2 * readableBytes ? self : ByteBuffer(bytes: readableBytesView)
    }
}

/// The five bytes before a message.
func messagePrefix(length: Int, isCompressed: Bool = false) -> HTTP2.Stream.Prefix {
    var prefix = HTTP2.Stream.Prefix()
    let length = UInt32(length)
    prefix.append(isCompressed ? 1 : 0)
    prefix.append(UInt8(truncatingIfNeeded: length >> 24))
    prefix.append(UInt8(truncatingIfNeeded: length >> 16))
    prefix.append(UInt8(truncatingIfNeeded: length >> 8))
    prefix.append(UInt8(truncatingIfNeeded: length))
    return prefix
}
