package import Support

internal import Glibc

/// A received header list, as it came, in one flat array: for each field the length of the name, the length of
/// the value (two bytes each, little endian), the name, and the value.
///
/// It takes one allocation, or none if it repeats the previous list of the same connection, as most calls do.
package struct HeaderBlock: Sendable, Equatable {
    var bytes: [UInt8] = []
    /// Whether the list was over the session's limit. The fields past the limit are missing.
    package internal(set) var isTruncated = false

    package init() {}

    /// A block of the given fields, for tests.
    package init(_ fields: [(name: String, value: String)]) {
        for field in fields {
            append(name: field.name.utf8, value: field.value.utf8)
        }
    }

    private mutating func append(name: some Collection<UInt8>, value: some Collection<UInt8>) {
        let (nameCount, valueCount) = (name.count, value.count)
        bytes.append(UInt8(truncatingIfNeeded: nameCount))
        bytes.append(UInt8(truncatingIfNeeded: nameCount >> 8))
        bytes.append(UInt8(truncatingIfNeeded: valueCount))
        bytes.append(UInt8(truncatingIfNeeded: valueCount >> 8))
        bytes.append(contentsOf: name)
        bytes.append(contentsOf: value)
    }

    /// The first value of the field; nil if there is none. Names are in lower case. Invalid UTF-8 in a value is
    /// replaced.
    package func value(for name: StaticString) -> ExactText? {
        for field in fields where name.withUTF8Buffer({ unsafe field.name.elementsEqual($0) }) {
            return ExactText(decoding: field.value)
        }
        return nil
    }

    /// The fields in the order in which they were received, including pseudo-headers.
    package var fields: Fields {
        Fields(bytes: bytes)
    }

    package struct Fields: Sequence, IteratorProtocol {
        package struct Field {
            package let name: ArraySlice<UInt8>
            package let value: ArraySlice<UInt8>
        }

        let bytes: [UInt8]
        var offset = 0

        package mutating func next() -> Field? {
            guard offset < bytes.count else { return nil }
            let nameCount = Int(bytes[offset]) | Int(bytes[offset + 1]) << 8
            let valueCount = Int(bytes[offset + 2]) | Int(bytes[offset + 3]) << 8
            let nameStart = offset + 4
            let valueStart = nameStart + nameCount
            offset = valueStart + valueCount
            return Field(name: bytes[nameStart..<valueStart], value: bytes[valueStart..<offset])
        }
    }
}

/// Collects a header list while it is received, in memory of fixed size that is reused for every list.
@safe struct HeaderScratch: ~Copyable {
    /// Room for the whole limit: a field counts 32 bytes as overhead (RFC 9113 section 6.5.2) and uses only four.
    private let storage: UnsafeMutableRawBufferPointer
    private let bytesMax: Int
    private var count = 0
    private var countedBytes = 0
    private var isTruncated = false
    /// The bytes over the limit of all lists that arrived in the same read.
    private var excessBytes = 0

    init(bytesMax: Int) {
        self.bytesMax = bytesMax
        unsafe self.storage = .allocate(byteCount: bytesMax, alignment: 1)
    }

    deinit {
        unsafe storage.deallocate()
    }

    mutating func removeAll() {
        count = 0
        countedBytes = 0
        isTruncated = false
    }

    /// Begins a new read, which has at most some kilobytes.
    mutating func beginRead() {
        excessBytes = 0
    }

    /// Appends a field. Returns false if the lists of one read decode to so many bytes over the limit that it
    /// must be an attack.
    mutating func append(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) -> Bool {
        let fieldBytes = name.count + value.count + 32
        countedBytes += fieldBytes
        guard countedBytes <= bytesMax else {
            isTruncated = true
            excessBytes += fieldBytes
            return excessBytes <= Self.excessMax * bytesMax
        }
        // The write stays in bounds, because each field takes 28 bytes less than it counts, and both lengths fit
        // two bytes.
        let target = unsafe UnsafeMutableRawBufferPointer(rebasing: storage[count...])
        let lengths = UInt32(truncatingIfNeeded: name.count | value.count << 16)
        unsafe target.storeBytes(of: lengths.littleEndian, as: UInt32.self)
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[4...]).copyMemory(from: name)
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[(4 + name.count)...]).copyMemory(from: value)
        count += 4 + name.count + value.count
        return true
    }

    /// The most by which the lists of one read may exceed the limit, as a multiple of it. Up to there, lists that
    /// are too long are received to their end and refused as too long.
    private static let excessMax = 16

    func isEqual(to block: HeaderBlock) -> Bool {
        guard count == block.bytes.count, isTruncated == block.isTruncated else { return false }
        return unsafe block.bytes.withUnsafeBytes { bytes in
            unsafe count == 0
                || memcmp(bytes.baseAddress.unsafelyUnwrapped, storage.baseAddress.unsafelyUnwrapped, count)
                    == 0
        }
    }

    func block() -> HeaderBlock {
        var block = HeaderBlock()
        block.bytes = unsafe Array(storage[..<count])
        block.isTruncated = isTruncated
        return block
    }
}
