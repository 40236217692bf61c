import CSignalboxProto
import CProtobufC
package import JobModel
import NIOCore
import Support

import Glibc

/// Memory for the C structs of one message. An allocation moves a pointer; all memory is freed at once.
///
/// protobuf-c does not limit what it allocates: two bytes on the wire can become a struct of hundreds of
/// bytes. The arena's budget is the limit. A unary call needs one malloc, because the arena's own state is
/// at the start of its first chunk.
@safe
struct MessageArena: ~Copyable {
    /// The most that unpacking a message of `count` bytes may allocate, in bytes. It is enough for every
    /// message that a client writes.
    static func budget(forMessageBytes count: Int) -> Int {
        min(32 << 20, (64 << 10) + 64 * min(count, 1 << 20))
    }

    private static let firstChunkBytes = 4 << 10
    private static let chunkBytesMax = 256 << 10
    private static let alignment = 16

    /// The arena's state, which is also the header of its first chunk.
    @unsafe
    private struct State {
        /// The first free byte of the latest chunk, and the end of that chunk.
        var next: UnsafeMutableRawPointer
        var end: UnsafeMutableRawPointer
        /// The latest chunk after the first one. Each starts with a pointer to the chunk before it.
        var latestChunk: UnsafeMutableRawPointer?
        var bytesLeft: Int
        var nextChunkBytes: Int
        var isExhausted: Bool
    }

    private let state: UnsafeMutablePointer<State>

    /// - Parameter budget: The most that it may allocate, in bytes, without the first chunk of 4 KiB.
    init(budget: Int) {
        let chunk = UnsafeMutableRawPointer.allocate(
            byteCount: Self.firstChunkBytes, alignment: Self.alignment)
        unsafe state = chunk.bindMemory(to: State.self, capacity: 1)
        unsafe state.initialize(
            to: State(
                next: chunk + Self.aligned(MemoryLayout<State>.size), end: chunk + Self.firstChunkBytes,
                latestChunk: nil, bytesLeft: budget, nextChunkBytes: 2 * Self.firstChunkBytes,
                isExhausted: false))
    }

    deinit {
        var chunk = unsafe state.pointee.latestChunk
        while let current = unsafe chunk {
            unsafe chunk = current.load(as: UnsafeMutableRawPointer?.self)
            unsafe free(current)
        }
        unsafe UnsafeMutableRawPointer(state).deallocate()
    }

    /// Whether an allocation was refused.
    var isExhausted: Bool { unsafe state.pointee.isExhausted }

    /// The allocator that protobuf-c uses. It must not outlive the arena.
    var allocator: ProtobufCAllocator {
        unsafe ProtobufCAllocator(
            alloc: { state, bytes in
                guard let state = unsafe state else { return nil }
                return unsafe MessageArena.allocate(
                    bytes: bytes, from: state.assumingMemoryBound(to: State.self))
            },
            // The arena frees everything at once.
            free: { _, _ in },
            allocator_data: state)
    }

    /// Memory for building a message, aligned to 16 bytes and valid as long as the arena.
    func allocate(bytes: Int) -> UnsafeMutableRawPointer {
        guard let memory = unsafe Self.allocate(bytes: bytes, from: state) else {
            // Proof that `fatalError` is right. `allocate(bytes:from:)` gives nil in three cases:
            // - the budget is used up, which cannot be: only `pack` builds, and its arena's budget is `Int.max`;
            // - 2⁴⁰ bytes or more are asked for, which cannot be: what is built is a copy of values in memory;
            // - malloc fails, where every other allocation in Swift would end the process too.
            // A peer's message is unpacked, not built: `allocator` returns nil to protobuf-c, and the call fails.
            fatalError("out of memory")  // Right: only malloc can have failed; the proof is above.
        }
        return unsafe memory
    }

    private static func aligned(_ bytes: Int) -> Int {
        (bytes + alignment - 1) & ~(alignment - 1)
    }

    /// Nil where the budget does not allow it, or malloc fails.
    private static func allocate(
        bytes: Int, from state: UnsafeMutablePointer<State>
    ) -> UnsafeMutableRawPointer? {
        // No message is near 2⁴⁰ bytes, and below that no sum here can overflow.
        guard bytes >= 0, bytes < 1 << 40 else {
            unsafe state.pointee.isExhausted = true
            return nil
        }
        let needed = aligned(bytes)
        if unsafe state.pointee.end - state.pointee.next < needed {
            let size = unsafe max(
                needed + alignment, min(state.pointee.nextChunkBytes, state.pointee.bytesLeft))
            guard unsafe size <= state.pointee.bytesLeft, let chunk = unsafe malloc(size) else {
                unsafe state.pointee.isExhausted = true
                return nil
            }
            unsafe chunk.storeBytes(of: state.pointee.latestChunk, as: UnsafeMutableRawPointer?.self)
            unsafe state.pointee.latestChunk = chunk
            unsafe state.pointee.next = chunk + alignment
            unsafe state.pointee.end = chunk + size
            unsafe state.pointee.bytesLeft -= size
            unsafe state.pointee.nextChunkBytes = min(2 * state.pointee.nextChunkBytes, chunkBytesMax)
        }
        let memory = unsafe state.pointee.next
        unsafe state.pointee.next = memory + needed
        return unsafe memory
    }
}

// MARK: - Building and packing

extension MessageArena {
    /// A C struct with its fields unset, which `fill` then sets.
    func make<Message>(
        _ initialise: (UnsafeMutablePointer<Message>?) -> Void, _ fill: (inout Message) -> Void
    ) -> UnsafeMutablePointer<Message> {
        let message = unsafe allocate(bytes: MemoryLayout<Message>.size)
            .bindMemory(to: Message.self, capacity: 1)
        unsafe initialise(message)
        unsafe fill(&message.pointee)
        return unsafe message
    }

    /// The count and the pointer of a repeated field of message type.
    func list<Items: Collection, Message>(
        _ items: Items, _ initialise: (UnsafeMutablePointer<Message>?) -> Void,
        _ fill: (inout Message, Items.Element) -> Void
    ) -> (Int, UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?) {
        unsafe array(items) { item in unsafe make(initialise) { fill(&$0, item) } }
    }

    /// The count and the pointer of a repeated field.
    func array<Items: Collection, Value>(
        _ items: Items, _ value: (Items.Element) -> Value
    ) -> (Int, UnsafeMutablePointer<Value>?) {
        let count = items.count
        guard count > 0 else { return (0, nil) }
        let memory = unsafe allocate(bytes: count * MemoryLayout<Value>.stride)
            .bindMemory(to: Value.self, capacity: count)
        for (index, item) in items.enumerated() { unsafe (memory + index).initialize(to: value(item)) }
        return unsafe (count, memory)
    }

    func bytes(_ bytes: [UInt8]) -> ProtobufCBinaryData {
        unsafe bytes.withUnsafeBytes { unsafe copy($0) }
    }

    func text(_ text: ExactText) -> ProtobufCBinaryData {
        unsafe self.text(text.text)
    }

    func text(_ text: String) -> ProtobufCBinaryData {
        var text = text
        return text.withUTF8 { unsafe copy(UnsafeRawBufferPointer($0)) }
    }

    private func copy(_ source: UnsafeRawBufferPointer) -> ProtobufCBinaryData {
        guard let start = source.baseAddress, source.count > 0 else { return unsafe ProtobufCBinaryData() }
        let target = unsafe allocate(bytes: source.count)
        unsafe target.copyMemory(from: start, byteCount: source.count)
        return unsafe ProtobufCBinaryData(
            len: source.count, data: target.bindMemory(to: UInt8.self, capacity: source.count))
    }

    /// The bytes of a message, for `google.protobuf.Any`.
    func packed<Message>(_ message: UnsafeMutablePointer<Message>) -> ProtobufCBinaryData {
        // The C struct of every message starts with a ProtobufCMessage.
        let base = unsafe UnsafeRawPointer(message).assumingMemoryBound(to: ProtobufCMessage.self)
        let size = unsafe protobuf_c_message_get_packed_size(base)
        let target = unsafe allocate(bytes: size).bindMemory(to: UInt8.self, capacity: size)
        unsafe protobuf_c_message_pack(base, target)
        return unsafe ProtobufCBinaryData(len: size, data: target)
    }

    /// Builds a message and packs it directly into the buffer that is sent.
    static func pack<Message>(
        _ initialise: (UnsafeMutablePointer<Message>?) -> Void,
        _ fill: (inout Message, borrowing MessageArena) -> Void
    ) -> ByteBuffer {
        let arena = MessageArena(budget: .max)
        let message = unsafe arena.make(initialise) { fill(&$0, arena) }
        let base = unsafe UnsafeRawPointer(message).assumingMemoryBound(to: ProtobufCMessage.self)
        let size = unsafe protobuf_c_message_get_packed_size(base)
        var buffer = ByteBufferAllocator().buffer(capacity: size)
        if size > 0 {
            unsafe buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { target in
                unsafe protobuf_c_message_pack(base, target.baseAddress?.assumingMemoryBound(to: UInt8.self))
            }
        }
        // The arena must live up to here, since its memory is used above.
        _ = consume arena
        return buffer
    }
}

// MARK: - Unpacking

/// Why bytes cannot be decoded.
package enum DecodingError: Error, Sendable, Equatable {
    /// The bytes are not a message of this type (INVALID_ARGUMENT).
    case malformed
    /// Unpacking would need more memory than the arena's budget (RESOURCE_EXHAUSTED).
    case tooLarge
    /// A request has fields that this version does not know (INVALID_ARGUMENT). The violations name at least one of them,
    /// and at most 20.
    case unknownFields([FieldViolation])
    /// A response has a value that a client cannot accept, such as an unknown state or text that is not UTF-8.
    case invalid(FieldViolation)
}

extension MessageArena {
    /// Unpacks a message and reads it; its memory is valid only in `read`. Unknown fields are left out.
    static func unpack<Message, Value>(
        _ bytes: ByteBuffer, _ unpack: Unpack<Message>, _ read: (Message) -> Value
    ) throws(DecodingError) -> Value {
        try unsafe withUnpacked(bytes, unpack) { unsafe read($0.pointee) }
    }

    /// Unpacks a message and reads it where it is in memory, which is valid only in `read`.
    static func withUnpacked<Message, Value>(
        _ bytes: ByteBuffer, _ unpack: Unpack<Message>, _ read: (UnsafeMutablePointer<Message>) -> Value
    ) throws(DecodingError) -> Value {
        let arena = MessageArena(budget: budget(forMessageBytes: bytes.readableBytes))
        var allocator = unsafe arena.allocator
        let unpacked = unsafe bytes.withUnsafeReadableBytes { source in
            unsafe unpack(
                &allocator, source.count, source.baseAddress?.assumingMemoryBound(to: UInt8.self))
        }
        guard let message = unsafe unpacked else {
            throw arena.isExhausted ? .tooLarge : .malformed
        }
        let value = unsafe read(message)
        // The arena must live up to here, since its memory is used above.
        _ = consume arena
        return value
    }
}
