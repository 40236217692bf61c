/// The token of an `authorization` header (RFC 6750, section 2.1).
enum BearerToken {
    static let bytesMax = 8 * 1024

    static func parse(_ header: String) throws(AuthenticationError) -> [UInt8] {
        let bytes = header.utf8
        guard let space = bytes.firstIndex(of: UInt8(ascii: " ")) else { throw .malformedHeader }
        // The scheme is not case-sensitive, as in HTTP.
        guard bytes[..<space].elementsEqual("bearer".utf8, by: { $0 | 0x20 == $1 }) else {
            throw .malformedHeader
        }
        let token = bytes[space...].drop { $0 == UInt8(ascii: " ") }
        guard !token.isEmpty else { throw .malformedHeader }
        guard token.count <= bytesMax else { throw .tokenTooLong }
        // Two headers of this name arrive joined by a comma, which is not a token byte: both are refused.
        guard token.allSatisfy(isTokenByte) else { throw .malformedHeader }
        return Array(token)
    }

    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"), UInt8(ascii: "+"),
            UInt8(ascii: "/"), UInt8(ascii: "="):
            true
        default: false
        }
    }
}
