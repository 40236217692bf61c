import HTTP2
import NIOCore
import Support

@testable import GRPC

/// Any bytes as the headers of a request, and as the texts in them that have a form of their own.
func fuzzMetadata(_ bytes: UnsafeBufferPointer<UInt8>) {
    let input = Array(bytes)
    // Lines of "name:value", where a pseudo-header's name begins with a colon.
    var fields: [(name: String, value: String)] = [(":method", "POST"), (":path", "/t/T")]
    for line in input.split(separator: 0x0a, maxSplits: 64, omittingEmptySubsequences: true) {
        let colon = line.dropFirst().firstIndex(of: 0x3a) ?? line.endIndex
        fields.append(
            (
                String(decoding: line[..<colon], as: UTF8.self),
                String(decoding: line[colon...].dropFirst(), as: UTF8.self)
            ))
    }
    let block = HeaderBlock(fields)
    let head = RequestHead(block, router: router, messageBytesMax: 1_000)
    if let timeout = head.timeout { precondition(timeout >= .zero, "time does not run backwards") }
    let metadata = Metadata(block)
    var sent = HeaderFields()
    metadata.append(to: &sent)

    for form in [Base64.standard, .url] {
        guard let decoded = form.decode(input[...]) else { continue }
        precondition(form.decode(form.encode(decoded)[...]) == decoded, "base64 comes back")
    }
    let text = PercentEncoding.decode(input)
    let encoded = PercentEncoding.encode(text, bytesMax: .max)
    precondition(PercentEncoding.decode(encoded) == text, "percent encoding comes back")
    if let timeout = Timeout.decode(input) {
        // But for what eight digits do not hold.
        let slack = timeout / 10_000
        let again = Timeout.decode(Array(Timeout.encode(timeout).utf8)) ?? .seconds(-1)
        precondition(again >= timeout - slack && again <= timeout + slack, "a timeout comes back")
    }
}

private let router = Router([.unary("/t/T") { message, _ in message }])
