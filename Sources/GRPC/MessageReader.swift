internal import HTTP2
internal import MessageCompression
internal import NIOCore

/// Cuts messages out of a stream's bytes: a flag byte, four bytes of length, the message (PROTOCOL-HTTP2.md,
/// "Length-Prefixed-Message"). Messages stay in it until they are taken. For flow control the peer's window is opened
/// only by what was taken or is needed to complete the next message.
struct MessageReader {
    /// The limit on a message, both as received and when decompressed.
    let messageBytesMax: Int
    /// The encoding of messages whose flag says that they are compressed; nil: none may be.
    let coding: Coding?
    /// A message that is complete in the bytes received shares memory with them.
    let sharesMemory: Bool

    private(set) var buffer = ByteBuffer()
    /// Whether the message last taken was compressed.
    private(set) var wasCompressed = false
    /// Bytes received for which the window was not opened again.
    private var withheldBytes = 0
    /// The window is opened in steps of this size, not for each small message.
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
                // Otherwise the buffer would grow without bound if the peer always sent the end of one message with the
                // beginning of the next. It is cheap because less is moved than was read.
                buffer.discardReadBytes()
            }
            buffer.writeBuffer(&bytes)
        }
    }

    /// Copies what is buffered if it pins a much larger buffer, because it may stay for long.
    mutating func keep() {
        buffer = buffer.kept
    }

    /// The length of the next message if it is complete, or the status if it breaks a rule. A message over the limit fails
    /// as soon as its prefix is there.
    func check() -> Result<Int?, Status> {
        guard let flag = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self) else {
            return .success(nil)
        }
        guard flag == 0 || flag == 1 && coding != nil else {
            // Unknown encodings were refused with the headers.
            return .failure(
                Status(
                    .internalError, .protocolViolation,
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
                .messageTooLarge(bytes: Int(length), bytesMax: messageBytesMax))
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
            // The copy has just the message's size because the caller may keep it for hours.
            let message = ByteBuffer(bytes: buffer.readableBytesView.prefix(length))
            buffer.moveReaderIndex(forwardBy: length)
            // An idle call keeps no capacity for the next message.
            if buffer.readableBytes == 0 { buffer = ByteBuffer() }
            return .success(message)
        }
    }

    /// Takes the next message, which is compressed.
    private mutating func decompress(length: Int) -> Result<ByteBuffer, Status> {
        guard let coding, let compressed = buffer.readSlice(length: length) else {
            preconditionFailure("check() found the message complete and its encoding known")
        }
        if buffer.readableBytes == 0 { buffer = ByteBuffer() }
        do throws(DecompressionError) {
            return .success(try coding.decompress(compressed, bytesMax: messageBytesMax))
        } catch {
            switch error {
            case .corrupt:
                return .failure(
                    Status(
                        .internalError, .protocolViolation,
                        "message cannot be decompressed with its declared encoding"))
            case .tooLarge:
                return .failure(
                    Status(
                        .resourceExhausted, .messageTooLarge,
                        "a message is over the limit of \(messageBytesMax) bytes when it is decompressed",
                        ["limitBytes": "\(messageBytesMax)"]))
            }
        }
    }

    /// The bytes by which the peer's window is to be opened now.
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
    /// A copy of the bytes in a buffer of about their size. Received bytes may be a slice of a much larger buffer,
    /// which lives as long as any slice of it.
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
