internal import HTTP2
internal import MessageCompression
internal import Support

/// The method and options that the headers of a request name, or why it is refused (PROTOCOL-HTTP2.md, "Requests").
///
/// It is made from a header block alone, so it is used again for the next request with the same block.
final class RequestHead: Sendable {
    enum Verdict: Sendable {
        case call(Method, messageBytesMax: Int)
        /// The request is not gRPC and is answered with an HTTP status.
        case refuseHTTP(status: String)
        case refuse(Status)
    }

    let block: HeaderBlock
    let verdict: Verdict
    let timeout: Duration?
    /// The encoding of messages that are compressed.
    let coding: Coding?
    /// The value of `authorization`.
    let authorization: String?
    /// The encodings that the client accepts in responses.
    let acceptedCodings: [Coding]

    private static let pathShownBytesMax = 128

    /// The value of `grpc-accept-encoding` with the encodings that this server accepts.
    static let acceptedEncodings = "identity,gzip,deflate"

    init(_ block: HeaderBlock, router: Router, messageBytesMax: Int) {
        self.block = block
        var path: ArraySlice<UInt8>?
        var isPost = false
        var isGRPC = false
        var timeout: Duration?
        var coding: Coding?
        var acceptedCodings: [Coding] = []
        var authorization: String?
        var refusal: Status?
        for field in block.fields {
            // Names are compared by length first, and only the values that are kept become strings.
            switch field.name.count {
            case 5 where field.name.isEqual(to: ":path"):
                path = field.value
            case 7 where field.name.isEqual(to: ":method"):
                isPost = field.value.isEqual(to: "POST")
            case 12 where field.name.isEqual(to: "content-type"):
                isGRPC = Self.isGRPC(contentType: field.value)
            case 12 where field.name.isEqual(to: "grpc-timeout"):
                timeout = Timeout.decode(field.value)
                switch timeout {
                case nil: refusal = Status(.internalError, .protocolViolation, "malformed grpc-timeout")
                case .zero?:
                    refusal = Status(
                        .deadlineExceeded, .deadline, "the deadline has passed: grpc-timeout is 0")
                default: break
                }
            case 13 where field.name.isEqual(to: "authorization"):
                let value = String(decoding: field.value, as: UTF8.self)
                // Several fields are one with commas (RFC 9110 section 5.3), and that is no credential.
                authorization = authorization.map { "\($0),\(value)" } ?? value
            case 13 where field.name.isEqual(to: "grpc-encoding"):
                coding = Self.coding(field.value)
                if coding == nil, !field.value.isEqual(to: "identity") {
                    refusal = Status(
                        .unimplemented, .encodingUnsupported,
                        "unsupported grpc-encoding: accepted are \(Self.acceptedEncodings)",
                        ["accepted": Self.acceptedEncodings])
                }
            case 20 where field.name.isEqual(to: "grpc-accept-encoding"):
                acceptedCodings += field.value.split(separator: UInt8(ascii: ",")).compactMap {
                    Self.coding($0.trimmingSpaces)
                }
            default:
                break
            }
        }
        self.timeout = timeout
        self.coding = coding
        self.acceptedCodings = acceptedCodings
        self.authorization = authorization
        if block.isTruncated {
            verdict = .refuse(
                Status(.resourceExhausted, .headersTooLarge, "the request's headers are over the limit"))
        } else if !isPost {
            verdict = .refuseHTTP(status: "405")
        } else if !isGRPC {
            verdict = .refuseHTTP(status: "415")
        } else if let refusal {
            verdict = .refuse(refusal)
        } else if let method = router[path ?? []] {
            verdict = .call(method, messageBytesMax: method.requestBytesMax ?? messageBytesMax)
        } else {
            // The status quotes a bounded part of the path.
            let shown = ExactText(decoding: (path ?? []).prefix(Self.pathShownBytesMax))
            verdict = .refuse(
                Status(.unimplemented, .methodUnknown, "unknown method \(shown)", ["method": "\(shown)"]))
        }
    }

    private static func coding(_ name: ArraySlice<UInt8>) -> Coding? {
        if name.isEqual(to: "gzip") { return .gzip }
        if name.isEqual(to: "deflate") { return .deflate }
        return nil
    }

    /// "application/grpc", alone or followed by "+proto" or ";parameter".
    private static func isGRPC(contentType: ArraySlice<UInt8>) -> Bool {
        let prefix: StaticString = "application/grpc"
        guard contentType.prefix(prefix.utf8CodeUnitCount).isEqual(to: prefix) else { return false }
        switch contentType.dropFirst(prefix.utf8CodeUnitCount).first {
        case nil, UInt8(ascii: "+"), UInt8(ascii: ";"): return true
        default: return false
        }
    }
}

extension ArraySlice<UInt8> {
    fileprivate func isEqual(to text: StaticString) -> Bool {
        count == text.utf8CodeUnitCount
            && text.withUTF8Buffer { text in
                elementsEqual(text)
            }
    }
}
