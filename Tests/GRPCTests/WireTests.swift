import HTTP2
import NIOCore
import NIOPosix
import GRPC
import Support
import Testing

/// What a server does with clients that are not ours: a session driven by hand over a socket.
@Suite(.timeLimit(.minutes(3))) struct WireTests {
    /// A client whose every byte the test decides on.
    private final class Wire {
        let session = Session(role: .client)
        private var inbound: NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
        private let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>

        init(
            _ inbound: NIOAsyncChannelInboundStream<ByteBuffer>,
            _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
        ) {
            self.inbound = inbound.makeAsyncIterator()
            self.outbound = outbound
        }

        func write(_ bytes: ByteBuffer) async throws {
            try await outbound.write(bytes)
        }

        func send() async throws {
            var buffer = ByteBuffer()
            _ = try session.send(into: &buffer, limit: 1 << 20)
            if buffer.readableBytes > 0 { try await write(buffer) }
        }

        /// Reads until the server closes or `isLast`, answering as HTTP/2 asks for, and returns all events.
        func events(answering: Bool = true, until isLast: (Event) -> Bool = { _ in false }) async throws
            -> [Event]
        {
            var all: [Event] = []
            while let bytes = try await inbound.next(isolation: #isolation) {
                try session.receive(bytes)
                var events: [Event] = []
                session.forEachEvent { events.append($0) }
                all += events
                if events.contains(where: isLast) { return all }
                if answering { try? await send() }
            }
            return all
        }
    }

    private static let echo = Method.unary("/t/Echo", maxRequestBytes: 100) { message, _ in message }

    private func withWire(
        methods: [Method] = [WireTests.echo], configure: (inout ServerConfiguration) -> Void = { _ in },
        _ body: (Wire) async throws -> Void
    ) async throws {
        var configuration = ServerConfiguration()
        configuration.addresses = [.init(host: "127.0.0.1", port: 0)]
        configuration.eventLoopThreads = 1
        configure(&configuration)
        let server = Server(configuration: configuration, methods: methods, logger: quiet)
        try await server.start()
        do {
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(host: "127.0.0.1", port: server.port ?? 0) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                    }
                }
            try await channel.executeThenClose { inbound, outbound in
                try await body(Wire(inbound, outbound))
            }
        } catch {
            await server.shutdown(grace: .zero)
            throw error
        }
        await server.shutdown(grace: .zero)
    }

    private func request(_ changes: KeyValuePairs<String, String> = [:]) -> HeaderFields {
        var fields = HeaderFields()
        let usual: KeyValuePairs = [
            ":method": "POST", ":scheme": "http", ":path": "/t/Echo", ":authority": "here",
            "content-type": "application/grpc", "te": "trailers",
        ]
        for (name, value) in usual { fields.append(name, changes.first { $0.key == name }?.value ?? value) }
        for (name, value) in changes where !usual.contains(where: { $0.key == name }) {
            fields.append(name, value)
        }
        return fields
    }

    private struct Answer: Equatable {
        var http: String?
        var grpc: String?
    }

    /// One call, half-closed unless `body` is nil; the last headers with a status, and how the stream closed.
    private func answer(_ fields: HeaderFields, body: [UInt8]?) async throws -> (
        answer: Answer, code: ErrorCode?
    ) {
        var (answer, code) = (Answer(), ErrorCode?.none)
        try await withWire { wire in
            let stream = try wire.session.request(fields)
            if let body {
                wire.session.write(HTTP2.Stream.Prefix(), ByteBuffer(bytes: body), to: stream)
                wire.session.finish(stream, trailers: nil)
            }
            try await wire.send()
            for event in try await wire.events(until: { if case .closed = $0 { true } else { false } }) {
                switch event {
                case .headers(_, let block, _):
                    answer.http = block.value(for: ":status")?.text ?? answer.http
                    answer.grpc = block.value(for: "grpc-status")?.text ?? answer.grpc
                case .closed(_, let reason):
                    code = reason
                default:
                    break
                }
            }
        }
        return (answer, code)
    }

    @Test func answers() async throws {
        let message: [UInt8] = [0, 0, 0, 0, 1, 7]
        for (fields, body, expected) in [
            (request(), message, Answer(http: "200", grpc: "0")),
            (request([":method": "GET"]), message, Answer(http: "405")),
            (request(["content-type": "application/json"]), message, Answer(http: "415")),
            (request([":path": "/t/None"]), message, Answer(http: "200", grpc: "12")),
            (request(["grpc-encoding": "br"]), message, Answer(http: "200", grpc: "12")),
            // Not every message need be compressed.
            (request(["grpc-encoding": "gzip"]), message, Answer(http: "200", grpc: "0")),
            (request(["grpc-encoding": "gzip"]), [1, 0, 0, 0, 1, 7], Answer(http: "200", grpc: "13")),
            (request(["grpc-timeout": "1"]), message, Answer(http: "200", grpc: "13")),
            (request(), [], Answer(http: "200", grpc: "12")),
            (request(), message + message, Answer(http: "200", grpc: "12")),
            (request(), [0, 0, 0], Answer(http: "200", grpc: "13")),
            (request(), [1, 0, 0, 0, 1, 7], Answer(http: "200", grpc: "13")),
            (request(), [0, 0, 0, 0, 101], Answer(http: "200", grpc: "8")),
        ] {
            let answer = try await answer(fields, body: body).answer
            #expect(answer == expected)
        }
    }

    @Test func refusalBeforeTheEndOfTheRequestResetsWithNoError() async throws {
        let (answer, code) = try await answer(request([":path": "/t/None"]), body: nil)
        #expect(answer == Answer(http: "200", grpc: "12"))
        #expect(code == .noError)
    }

    /// It is the server that looks at the clock: this client has none.
    @Test func replyAfterTheDeadlineIsDropped() async throws {
        let replies = Signal<Reply>()
        let later = Method(
            "/t/Later",
            .unary { _, _, reply in
                replies.send(reply)
                return .later
            })
        try await withWire(methods: [later]) { wire in
            try await begin("/t/Later", timeout: "20m", on: wire)
            let late = try await replies.wait()
            let first = try await end(of: wire)
            #expect(first.status == "4" && first.bytes == 0)
            late.send {
                Issue.record("a reply to a call that is over")
                return ByteBuffer()
            }
            // Replies are taken in order: the late one is dropped before this one is sent.
            try await begin("/t/Later", timeout: "1H", on: wire)
            let reply = try await replies.wait()
            reply.send { ByteBuffer(bytes: [9]) }
            let second = try await end(of: wire)
            #expect(second.status == "0" && second.bytes == 6)
        }
    }

    private func begin(_ path: String, timeout: String, on wire: Wire) async throws {
        let stream = try wire.session.request(request([":path": path, "grpc-timeout": timeout]))
        wire.session.write(HTTP2.Stream.Prefix(), ByteBuffer(bytes: [0, 0, 0, 0, 1, 7]), to: stream)
        wire.session.finish(stream, trailers: nil)
        try await wire.send()
    }

    /// Of the stream that closes next: its status, and how many bytes came before.
    private func end(of wire: Wire) async throws -> (status: String?, bytes: Int) {
        var (status, bytes) = (String?.none, 0)
        for event in try await wire.events(until: { if case .closed = $0 { true } else { false } }) {
            switch event {
            case .headers(_, let block, _): status = block.value(for: "grpc-status")?.text ?? status
            case .data(_, let part): bytes += part.readableBytes
            default: break
            }
        }
        return (status, bytes)
    }

    @Test func floodOfPingsEndsTheConnection() async throws {
        try await withWire { wire in
            for number in 0..<10 { wire.session.ping(UInt64(number)) }
            try await wire.send()
            // It sends nothing more: the server closes the socket behind its GOAWAY, and bytes that come after that make
            // the kernel reset the connection, which may take the GOAWAY from this client.
            let code = try await wire.events(answering: false).compactMap { event -> ErrorCode? in
                if case .goAway(_, let code) = event { code } else { nil }
            }
            #expect(code == [.enhanceYourCalm])
        }
    }

    @Test func silenceInsteadOfAPrefaceIsClosed() async throws {
        try await withWire(configure: { $0.handshakeTimeout = .milliseconds(50) }) { wire in
            _ = try await wire.events(answering: false)
        }
    }

    @Test func anotherProtocolIsClosed() async throws {
        try await withWire { wire in
            try await wire.write(ByteBuffer(string: "GET / HTTP/1.1\r\nhost: here\r\n\r\n"))
            _ = try await wire.events(answering: false)
        }
    }

    @Test func idleConnectionIsClosed() async throws {
        try await withWire(configure: { $0.idleTimeout = .milliseconds(50) }) { wire in
            try await wire.send()
            let hasGoaway = try await wire.events().contains {
                if case .goAway(_, .noError) = $0 { true } else { false }
            }
            #expect(hasGoaway)
        }
    }

    @Test func idleConnectionIsClosedWithoutAnAnswer() async throws {
        try await withWire(configure: {
            $0.idleTimeout = .milliseconds(50)
            $0.keepaliveTimeout = .milliseconds(50)
        }) { wire in
            try await wire.send()
            let hasGoaway = try await wire.events(answering: false).contains {
                if case .goAway(_, .noError) = $0 { true } else { false }
            }
            #expect(hasGoaway)
        }
    }

    @Test func unansweredPingClosesTheConnection() async throws {
        try await withWire(configure: {
            $0.keepaliveInterval = .milliseconds(50)
            $0.keepaliveTimeout = .milliseconds(50)
        }) { wire in
            try await wire.send()
            let isPinged = try await wire.events(answering: false).contains {
                if case .ping = $0 { true } else { false }
            }
            #expect(isPinged)
        }
    }
}
