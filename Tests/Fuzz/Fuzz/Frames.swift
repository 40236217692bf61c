import HTTP2
import MessageCompression
import NIOCore
import Support

@testable import GRPC

/// Any bytes as what a client sends: frames, and the messages in them. libFuzzer calls it, and looks for a crash, a
/// wait without end, and memory that grows.
func fuzzFrames(_ bytes: UnsafeBufferPointer<UInt8>) {
    var input = bytes[...]
    guard let choice = input.popFirst() else { return }
    let session = Session(role: .server)
    let answer = session.prepare(HeaderFields([":status": "200", "content-type": "application/grpc"]))
    let trailers = session.prepare(HeaderFields(["grpc-status": "0"]))
    var scanner = FrameScanner(prefaceBytes: 24)
    // Most of what begins in another way is refused at once.
    if choice & 1 == 0 { receive(ByteBuffer(string: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) }
    let step = choice & 2 == 0 ? input.count : Int(choice >> 2) + 1
    while !input.isEmpty {
        receive(ByteBuffer(bytes: input.prefix(step)))
        input = input.dropFirst(step)
    }
    // Counted the same, however the bytes are cut.
    precondition(scanner.overheadFrames == session.overheadFramesReceived, "frames are counted wrong")

    func receive(_ bytes: ByteBuffer) {
        for byte in bytes.readableBytesView {
            withUnsafeBytes(of: byte) { scanner.scan($0) }
        }
        try? session.receive(bytes)
        session.forEachEvent(handle)
        var output = ByteBuffer()
        _ = try? session.send(into: &output, limit: 1 << 20)
        session.forEachEvent(handle)
    }

    func handle(_ event: Event) {
        switch event {
        case .headers(let stream, let block, endStream: let isEnd):
            guard stream.owner == nil else { return }
            let call = Call(compressed: block.value(for: "grpc-encoding") == "gzip")
            stream.owner = call
            try? session.respond(stream, .prepared(answer), endStream: false)
            if isEnd { finish(stream, call) }
        case .data(let stream, let bytes):
            guard let call = stream.owner as? Call else { return }
            _ = call.machine.receive(bytes)
            session.consume(call.machine.takeReleasedBytes(), of: stream)
        case .endStream(let stream):
            if let call = stream.owner as? Call { finish(stream, call) }
        case .closed(let stream, _):
            stream.owner = nil
        case .drained, .settings, .settingsAcknowledged, .ping, .pingAcknowledged, .goAway:
            break
        }
    }

    func finish(_ stream: HTTP2.Stream, _ call: Call) {
        if case .start(let message) = call.machine.receiveEnd() {
            session.write(messagePrefix(length: message.readableBytes), message, to: stream)
        }
        _ = call.machine.finish()
        session.finish(stream, trailers: .prepared(trailers))
    }
}

private final class Call {
    var machine: ServerStreamStateMachine

    init(compressed: Bool) {
        machine = ServerStreamStateMachine(
            requests: .one, messageBytesMax: 1_000, sharesMemory: true, coding: compressed ? .gzip : nil)
    }
}
