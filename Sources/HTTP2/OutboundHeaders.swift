internal import CNGHTTP2

/// A header list to send. Names are in lower case, and values have no line breaks; the library refuses others.
package struct HeaderFields: Sendable, Equatable {
    private var bytes: [UInt8] = []
    private var lengths: [(name: Int, value: Int)] = []

    package init() {}

    package init(_ fields: KeyValuePairs<String, String>) {
        for (name, value) in fields {
            append(name, value)
        }
    }

    package mutating func append(_ name: String, _ value: String) {
        append(name, value.utf8)
    }

    package mutating func append(_ name: String, _ value: some Collection<UInt8>) {
        bytes.append(contentsOf: name.utf8)
        bytes.append(contentsOf: value)
        lengths.append((name.utf8.count, value.count))
    }

    package static func == (a: HeaderFields, b: HeaderFields) -> Bool {
        a.bytes == b.bytes && a.lengths.elementsEqual(b.lengths) { $0 == $1 }
    }

    /// Lends `body` the list in the library's form. The pointers are only valid during the call.
    func withNameValues<R>(_ body: (UnsafePointer<nghttp2_nv>?, Int) -> R) -> R {
        unsafe bytes.withUnsafeBufferPointer { storage in
            unsafe withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: lengths.count) { list in
                unsafe Self.fill(list, from: storage, lengths: lengths, flags: NGHTTP2_NV_FLAG_NONE)
                return unsafe body(UnsafePointer(list.baseAddress), lengths.count)
            }
        }
    }

    private static func fill(
        _ list: UnsafeMutableBufferPointer<nghttp2_nv>, from storage: UnsafeBufferPointer<UInt8>,
        lengths: [(name: Int, value: Int)], flags: nghttp2_nv_flag
    ) {
        // The library's type is not const-correct, but it never writes through these pointers.
        var next = unsafe UnsafeMutablePointer(mutating: storage.baseAddress)
        for (index, length) in lengths.enumerated() {
            let name = unsafe next
            let value = unsafe next.map { unsafe $0 + length.name }
            unsafe list.initializeElement(
                at: index,
                to: nghttp2_nv(
                    name: name, value: value, namelen: length.name, valuelen: length.value,
                    flags: UInt8(truncatingIfNeeded: flags.rawValue)))
            unsafe next = value.map { unsafe $0 + length.value }
        }
    }

    /// Copies the list into memory of its own, which the library may refer to without another copy.
    func prepared() -> PreparedStorage {
        let storage = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(bytes.count, 1))
        _ = unsafe storage.initialize(from: bytes)
        let list = UnsafeMutableBufferPointer<nghttp2_nv>.allocate(capacity: max(lengths.count, 1))
        let flags = nghttp2_nv_flag(
            NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue)
        unsafe Self.fill(list, from: UnsafeBufferPointer(storage), lengths: lengths, flags: flags)
        return unsafe PreparedStorage(storage: storage, list: list, count: lengths.count)
    }
}

/// Owns a header list that the library refers to. The session frees it after the library's own state.
@safe struct PreparedStorage: ~Copyable {
    private let storage: UnsafeMutableBufferPointer<UInt8>
    private let list: UnsafeMutableBufferPointer<nghttp2_nv>
    private let count: Int

    init(storage: UnsafeMutableBufferPointer<UInt8>, list: UnsafeMutableBufferPointer<nghttp2_nv>, count: Int)
    {
        unsafe self.storage = unsafe storage
        unsafe self.list = unsafe list
        self.count = count
    }

    deinit {
        unsafe list.deallocate()
        unsafe storage.deallocate()
    }

    borrowing func withNameValues<R>(_ body: (UnsafePointer<nghttp2_nv>?, Int) -> R) -> R {
        unsafe body(UnsafePointer(list.baseAddress), count)
    }
}

/// A header list that a session keeps for its whole life, so that it is sent without being built or copied.
package struct PreparedHeaders: Sendable, Equatable {
    let index: Int
}

package enum OutboundHeaders: Sendable, Equatable {
    case prepared(PreparedHeaders)
    case fields(HeaderFields)
}
