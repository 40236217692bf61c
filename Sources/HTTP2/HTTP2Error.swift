internal import CNGHTTP2

/// An error code of RFC 9113 section 7, as RST_STREAM and GOAWAY contain it. Only the codes that are used have a
/// name.
package struct ErrorCode: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
    package var rawValue: UInt32

    package init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    package static let noError = ErrorCode(rawValue: 0x0)
    package static let protocolError = ErrorCode(rawValue: 0x1)
    package static let internalError = ErrorCode(rawValue: 0x2)
    package static let streamClosed = ErrorCode(rawValue: 0x5)
    package static let refusedStream = ErrorCode(rawValue: 0x7)
    package static let cancel = ErrorCode(rawValue: 0x8)
    package static let enhanceYourCalm = ErrorCode(rawValue: 0xb)
    package static let inadequateSecurity = ErrorCode(rawValue: 0xc)

    package var description: String {
        "HTTP/2 error 0x" + String(rawValue, radix: 16)
    }
}

/// The reason why a session cannot go on, or why a call to it was refused.
package struct HTTP2Error: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Code: Sendable, Equatable {
        /// The preface is wrong: the peer does not speak HTTP/2 with prior knowledge.
        case badPreface
        /// The peer sends so many control frames that their acknowledgements pile up.
        case flooded
        /// No more streams may be opened on this connection.
        case noMoreStreams
        /// The stream has been closed.
        case streamClosed
        /// Any other error of the library.
        case library
    }

    package var code: Code
    package var message: String
    /// The library's error number, for the log.
    package var libraryCode: Int

    /// Wraps a negative return value of libnghttp2.
    init(libraryCode: Int) {
        self.libraryCode = libraryCode
        self.message = unsafe String(cString: nghttp2_strerror(CInt(clamping: libraryCode)))
        self.code =
            switch CInt(clamping: libraryCode) {
            case NGHTTP2_ERR_BAD_CLIENT_MAGIC.rawValue: .badPreface
            case NGHTTP2_ERR_FLOODED.rawValue: .flooded
            case NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE.rawValue, NGHTTP2_ERR_START_STREAM_NOT_ALLOWED.rawValue,
                NGHTTP2_ERR_SESSION_CLOSING.rawValue:
                .noMoreStreams
            case NGHTTP2_ERR_STREAM_CLOSED.rawValue, NGHTTP2_ERR_INVALID_STREAM_ID.rawValue: .streamClosed
            default: .library
            }
    }

    package var description: String {
        "HTTP2Error \(code): \(message) (\(libraryCode))"
    }
}
