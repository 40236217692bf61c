import HTTP2
import MessageCompression
import Testing

@testable import GRPC

@Suite struct RequestHeadTests {
    private let router = Router([.unary("/s/m") { message, _ in message }])

    private func verdict(_ changes: [String: String?] = [:]) -> String {
        let usual = [
            (":method", "POST"), (":scheme", "http"), (":path", "/s/m"), ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        var fields = usual.compactMap { field -> (name: String, value: String)? in
            guard let change = changes[field.0] else { return field }
            return change.map { (field.0, $0) }
        }
        for (name, value) in changes where !usual.contains(where: { $0.0 == name }) {
            if let value { fields.append((name, value)) }
        }
        switch RequestHead(HeaderBlock(fields), router: router, messageBytesMax: 1).verdict {
        case .call(let method, _): return method.path
        case .refuse(let status): return "\(status.code)"
        case .refuseHTTP(let status): return status
        }
    }

    @Test func accepted() {
        #expect(verdict() == "/s/m")
        #expect(verdict(["content-type": "application/grpc+proto"]) == "/s/m")
        #expect(verdict(["content-type": "application/grpc;x=y"]) == "/s/m")
        #expect(verdict(["grpc-encoding": "identity", "grpc-timeout": "1S"]) == "/s/m")
    }

    @Test func refused() {
        #expect(verdict([":method": "GET"]) == "405")
        #expect(verdict(["content-type": "application/json"]) == "415")
        #expect(verdict(["content-type": "application/grpc-web"]) == "415")
        #expect(verdict(["content-type": String?.none]) == "415")
        #expect(verdict([":path": "/s/other"]) == "unimplemented")
        #expect(verdict(["grpc-encoding": "br"]) == "unimplemented")
        #expect(verdict(["grpc-timeout": "0S"]) == "deadlineExceeded")
        #expect(verdict(["grpc-timeout": "soon"]) == "internalError")
    }

    @Test func codings() {
        let head = RequestHead(
            HeaderBlock([("grpc-encoding", "deflate"), ("grpc-accept-encoding", "identity, gzip ,br")]),
            router: router, messageBytesMax: 1)
        #expect(head.coding == .deflate && head.acceptedCodings == [.gzip])
    }

    @Test func timeout() {
        let block = HeaderBlock([("grpc-timeout", "3S")])
        #expect(RequestHead(block, router: router, messageBytesMax: 1).timeout == .seconds(3))
    }

    /// A path may be as long as a header list, and Swift would put it into normal form to look it up.
    @Test(.timeLimit(.minutes(3))) func aPathOfMarksIsUnknown() {
        let marks = String(repeating: "\u{345}\u{334}", count: 16_000)
        for path in ["/\(marks)", "/s/m\(marks)", "/s/m\u{301}", "", "/S/M"] {
            #expect(verdict([":path": path]) == "unimplemented")
        }
    }
}
