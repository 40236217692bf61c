import HTTP2
import MessageCompression
import NIOCore
import NIOEmbedded
import Testing

@testable import GRPC

/// A client on a connection without a socket, where time passes when the test says so.
final class EmbeddedPeer {
    let channel = EmbeddedChannel()
    let connection: ServerConnection
    let session: Session
    /// What the server has sent. The session is given none of it.
    private(set) var frames: [Frame] = []
    private var unread = ByteBuffer()

    struct Frame: Equatable {
        var type: UInt8
        var stream: Int32
        var payload: [UInt8]
    }

    static let dataType: UInt8 = 0
    static let headersType: UInt8 = 1
    static let goAwayType: UInt8 = 7
    static let resetType: UInt8 = 3

    /// - Parameters:
    ///   - streamWindowBytes: what the client takes on each stream before it opens its window.
    ///   - budgets: which others have a part in.
    init(
        _ methods: [GRPC.Method], streamWindowBytes: Int32 = 1 << 20, budgets: MemoryBudgets? = nil,
        configuration: ServerConfiguration = ServerConfiguration()
    ) throws {
        var limits = SessionConfiguration()
        limits.streamWindowBytes = streamWindowBytes
        session = Session(role: .client, configuration: limits)
        connection = ServerConnection(
            configuration: configuration, router: Router(methods),
            executor: LoopExecutor(eventLoop: channel.embeddedEventLoop),
            budgets: budgets ?? MemoryBudgets(configuration), logger: quiet, whenDone: {})
        try channel.pipeline.syncOperations.addHandler(connection)
        try channel.connect(to: SocketAddress(ipAddress: "192.0.2.1", port: 1)).wait()
    }

    /// Opens a stream with these bytes as its body.
    func request(
        _ path: String, _ body: ByteBuffer, isWhole: Bool, coding: Coding? = nil,
        authorization: String? = nil
    ) throws -> HTTP2.Stream {
        var fields = HeaderFields([
            ":method": "POST", ":scheme": "http", ":path": path, ":authority": "here",
            "content-type": "application/grpc", "te": "trailers",
        ])
        if let coding { fields.append("grpc-encoding", coding.name) }
        if let authorization { fields.append("authorization", authorization) }
        let stream = try session.request(fields)
        session.write(HTTP2.Stream.Prefix(), body, to: stream)
        if isWhole { session.finish(stream, trailers: nil) }
        try send()
        return stream
    }

    /// What the session has to say.
    func send() throws {
        var bytes = ByteBuffer()
        while try session.send(into: &bytes, limit: 1 << 20) {}
        try send(bytes)
    }

    func send(_ bytes: ByteBuffer) throws {
        if bytes.readableBytes > 0 { try channel.writeInbound(bytes) }
        try takeFrames()
    }

    /// Sends DATA by hand, because the session does not see the windows that the server opens.
    func sendBody(of stream: Int32, _ count: Int) throws {
        var frame = ByteBuffer(bytes: [
            UInt8(count >> 16), UInt8(count >> 8 & 0xff), UInt8(count & 0xff), 0, 0,
        ])
        frame.writeInteger(stream)
        frame.writeRepeatingByte(3, count: count)
        try send(frame)
    }

    /// Sends WINDOW_UPDATE by hand, because the library opens a window only when half of it is used up.
    func openWindow(of stream: Int32, by bytes: UInt32) throws {
        var frame = ByteBuffer(bytes: [0, 0, 4, 8, 0])
        frame.writeInteger(stream)
        frame.writeInteger(bytes)
        try send(frame)
    }

    func tick(_ count: Int = 1) throws {
        for _ in 0..<count { channel.embeddedEventLoop.advanceTime(by: connection.machine.tickInterval) }
        try takeFrames()
    }

    func bodyBytes(of stream: Int32) -> Int {
        frames.filter { $0.type == Self.dataType && $0.stream == stream }.map(\.payload.count).reduce(0, +)
    }

    /// The code that the stream was reset with.
    func reset(of stream: Int32) -> ErrorCode? {
        frames.first { $0.type == Self.resetType && $0.stream == stream }.map { frame in
            ErrorCode(rawValue: frame.payload.reduce(0) { $0 << 8 | UInt32($1) })
        }
    }

    func pass(_ time: TimeAmount) throws {
        channel.embeddedEventLoop.advanceTime(by: time)
        try takeFrames()
    }

    /// The last streams of the GOAWAYs.
    var goAways: [Int32] {
        frames.filter { $0.type == Self.goAwayType }.map { frame in
            frame.payload.prefix(4).reduce(0) { $0 << 8 | Int32($1) }
        }
    }

    /// Whether the server has answered it, with trailers or nothing but them.
    func hasEnded(_ stream: Int32) -> Bool {
        frames.contains { $0.type == Self.headersType && $0.stream == stream }
    }

    private func takeFrames() throws {
        while var bytes = try channel.readOutbound(as: ByteBuffer.self) { unread.writeBuffer(&bytes) }
        while let start = unread.getBytes(at: unread.readerIndex, length: 9) {
            let length = Int(start[0]) << 16 | Int(start[1]) << 8 | Int(start[2])
            guard unread.readableBytes >= 9 + length else { return }
            unread.moveReaderIndex(forwardBy: 5)
            let stream = unread.readInteger(as: Int32.self) ?? 0
            frames.append(
                Frame(type: start[3], stream: stream, payload: unread.readBytes(length: length) ?? []))
        }
    }
}
