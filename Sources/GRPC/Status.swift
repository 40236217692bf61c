import Support

/// The outcome of a call (gRPC's statuscodes.md). A handler throws it to end its call with it, and the client throws it
/// to its caller.
package struct Status: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Code: Int, Sendable, CaseIterable {
        case ok = 0
        case cancelled = 1
        case unknown = 2
        case invalidArgument = 3
        case deadlineExceeded = 4
        case notFound = 5
        case alreadyExists = 6
        case permissionDenied = 7
        case resourceExhausted = 8
        case failedPrecondition = 9
        case aborted = 10
        case outOfRange = 11
        case unimplemented = 12
        case internalError = 13
        case unavailable = 14
        case dataLoss = 15
        case unauthenticated = 16
    }

    package var code: Code
    /// A message for developers. It is sent percent-encoded and cut at 1,024 bytes.
    package var message: String
    /// A serialized `google.rpc.Status`, sent as `grpc-status-details-bin`; empty: none. It is not sent when it is over
    /// 4,096 bytes, because clients refuse trailers over 8 KiB.
    package var details: [UInt8]
    /// Why the server's transport has ended the call; nil: a handler has, or the status comes from a client.
    package internal(set) var reason: Reason?
    /// More trailers.
    package var metadata: Metadata

    package init(
        _ code: Code, _ message: String = "", details: [UInt8] = [], metadata: Metadata = Metadata()
    ) {
        self.code = code
        self.message = message
        self.details = details
        self.metadata = metadata
    }

    package var description: String {
        message.isEmpty ? "\(code)" : "\(code): \(message)"
    }

    static let messageBytesMax = 1_024
    static let detailsBytesMax = 4_096
}

/// `grpc-message`: bytes outside of printable ASCII, and '%', as %XX (PROTOCOL-HTTP2.md, "Status-Message").
enum PercentEncoding {
    static func encode(_ message: String, bytesMax: Int) -> [UInt8] {
        var encoded: [UInt8] = []
        // The message is cut between characters, because half a UTF-8 sequence is not valid.
        for character in message.unicodeScalars {
            let before = encoded.count
            for byte in String(character).utf8 {
                if (0x20...0x7e).contains(byte) && byte != 0x25 {
                    encoded.append(byte)
                } else {
                    encoded.append(0x25)
                    encoded.append(Hex.digit(byte >> 4, isUppercase: true))
                    encoded.append(Hex.digit(byte & 0xF, isUppercase: true))
                }
            }
            if encoded.count > bytesMax {
                encoded.removeLast(encoded.count - before)
                break
            }
        }
        return encoded
    }

    /// Decoding never fails: bytes that are not well encoded are kept as they are, as the protocol requires.
    static func decode(_ value: some Collection<UInt8>) -> String {
        let bytes = Array(value)
        var decoded: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == 0x25, index + 2 < bytes.count,
                let high = Hex.value(of: bytes[index + 1]), let low = Hex.value(of: bytes[index + 2])
            {
                decoded.append(high << 4 | low)
                index += 3
            } else {
                decoded.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: decoded, as: UTF8.self)
    }
}
