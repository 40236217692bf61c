internal import FoundationEssentials

/// Base64 as JOSE has it (RFC 7515, section 2): the alphabet for URLs, no padding, no white space.
enum Base64URL {
    static func encode(_ bytes: some Sequence<UInt8>) -> String {
        let encoded = Data(bytes).base64EncodedData().compactMap { byte in
            switch byte {
            case UInt8(ascii: "+"): UInt8(ascii: "-")
            case UInt8(ascii: "/"): UInt8(ascii: "_")
            case UInt8(ascii: "="): nil
            default: byte
            }
        }
        return String(decoding: encoded, as: UTF8.self)
    }

    /// Nil when it is anything else: one token has one spelling, the one that `encode` gives it.
    static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        var usual = text.map { byte in
            switch byte {
            case UInt8(ascii: "-"): UInt8(ascii: "+")
            case UInt8(ascii: "_"): UInt8(ascii: "/")
            default: byte
            }
        }
        while usual.count % 4 != 0 { usual.append(UInt8(ascii: "=")) }
        guard let decoded = Data(base64Encoded: Data(usual)), encode(decoded).utf8.elementsEqual(text) else {
            return nil
        }
        return Array(decoded)
    }
}
