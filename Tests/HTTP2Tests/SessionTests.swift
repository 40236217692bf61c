import HTTP2
import NIOCore
import Support
import TestRandom
import Testing

extension Session {
    /// Those since the last call.
    fileprivate func allEvents() -> [Event] {
        var all: [Event] = []
        forEachEvent { all.append($0) }
        return all
    }
}

/// Two sessions joined in memory.
private struct Pair {
    let client: Session
    let server: Session

    init(
        client: SessionConfiguration = SessionConfiguration(),
        server: SessionConfiguration = SessionConfiguration()
    ) throws {
        self.client = Session(role: .client, configuration: client)
        self.server = Session(role: .server, configuration: server)
        try exchange()
        _ = self.client.allEvents()
        _ = self.server.allEvents()
    }

    /// Carries bytes until neither side has any.
    func exchange() throws {
        var moved = true
        while moved {
            let there = try Self.carry(from: client, to: server)
            let back = try Self.carry(from: server, to: client)
            moved = there || back
        }
    }

    static func carry(from: Session, to: Session) throws -> Bool {
        var buffer = ByteBuffer()
        _ = try from.send(into: &buffer, limit: 1 << 20)
        guard buffer.readableBytes > 0 else { return false }
        try to.receive(buffer)
        return true
    }

    /// A request of the client as the server sees it.
    func open(_ fields: HeaderFields = requestFields) throws -> (client: HTTP2.Stream, server: HTTP2.Stream) {
        let stream = try client.request(fields)
        try exchange()
        for case .headers(let opened, _, _) in server.allEvents() { return (stream, opened) }
        throw Missing()
    }

    struct Missing: Error {}
}

private let requestFields = HeaderFields([
    ":method": "POST", ":scheme": "http", ":path": "/a/b", ":authority": "here",
    "content-type": "application/grpc",
])

private func data(_ events: [Event]) -> [UInt8] {
    events.flatMap { event -> [UInt8] in
        guard case .data(_, let buffer) = event else { return [] }
        return Array(buffer.readableBytesView)
    }
}

@Suite struct SessionTests {
    @Test func requestAndAnswerWithTrailers() throws {
        let pair = try Pair()
        let ok = pair.server.prepare(HeaderFields([":status": "200"]))
        let end = pair.server.prepare(HeaderFields(["grpc-status": "0"]))
        let stream = try pair.client.request(requestFields)
        pair.client.write(HTTP2.Stream.Prefix(), ByteBuffer(string: "question"), to: stream)
        pair.client.finish(stream, trailers: nil)
        try pair.exchange()

        let events = pair.server.allEvents()
        guard case .headers(let opened, let block, endStream: false) = events.first else {
            Issue.record("no headers first")
            return
        }
        #expect(block.value(for: ":path") == "/a/b")
        #expect(block.value(for: "content-type") == "application/grpc")
        #expect(block.value(for: "missing") == nil)
        #expect(data(events) == Array("question".utf8))
        guard case .endStream = events.last else {
            Issue.record("no end")
            return
        }

        try pair.server.respond(opened, .prepared(ok), endStream: false)
        var prefix = HTTP2.Stream.Prefix()
        prefix.append(1)
        prefix.append(2)
        pair.server.write(prefix, ByteBuffer(bytes: [3]), to: opened)
        pair.server.finish(opened, trailers: .prepared(end))
        try pair.exchange()

        let answer = pair.client.allEvents()
        #expect(data(answer) == [1, 2, 3])
        let blocks = answer.compactMap { event -> HeaderBlock? in
            guard case .headers(_, let block, _) = event else { return nil }
            return block
        }
        #expect(blocks.map { $0.value(for: ":status") } == ["200", nil])
        #expect(blocks.last?.value(for: "grpc-status") == "0")
        guard case .closed(_, .noError) = answer.last else {
            Issue.record("not closed")
            return
        }
        #expect(pair.client.streams.isEmpty)
        #expect(pair.server.streams.isEmpty)
    }

    @Test func windowHoldsTheSenderBackUntilConsumed() throws {
        var small = SessionConfiguration()
        small.streamWindowBytes = 65_535
        let pair = try Pair(server: small)
        let (stream, opened) = try pair.open()
        pair.client.write(HTTP2.Stream.Prefix(), ByteBuffer(repeating: 1, count: 100_000), to: stream)
        try pair.exchange()
        #expect(data(pair.server.allEvents()).count == 65_535)
        #expect(stream.queuedBytes == 100_000 - 65_535)
        #expect(pair.client.queuedBytes == stream.queuedBytes)

        pair.client.notifyWhenDrained(stream, to: 0)
        pair.server.consume(65_535, of: opened)
        try pair.exchange()
        #expect(data(pair.server.allEvents()).count == 100_000 - 65_535)
        #expect(pair.client.queuedBytes == 0)
        let drained = pair.client.allEvents().contains { event in
            guard case .drained(let drained) = event else { return false }
            return drained === stream
        }
        #expect(drained)
    }

    @Test func deferredStreamResumes() throws {
        let pair = try Pair()
        let (stream, _) = try pair.open()
        for text in ["a", "b", "c"] {
            pair.client.write(HTTP2.Stream.Prefix(), ByteBuffer(string: text), to: stream)
            try pair.exchange()
            #expect(data(pair.server.allEvents()) == Array(text.utf8))
        }
        pair.client.finish(stream, trailers: nil)
        try pair.exchange()
        guard case .endStream = pair.server.allEvents().last else {
            Issue.record("no end")
            return
        }
    }

    @Test func headersOverTheLimitAreCutAndMarked() throws {
        var small = SessionConfiguration()
        small.headerListBytesMax = 400
        let pair = try Pair(server: small)
        var fields = requestFields
        fields.append("x-big", String(repeating: "a", count: 500))
        _ = try pair.client.request(fields)
        try pair.exchange()
        guard case .headers(_, let block, _) = pair.server.allEvents().first else {
            Issue.record("no headers")
            return
        }
        #expect(block.isTruncated)
        #expect(block.value(for: "x-big") == nil)
    }

    /// Each list is over the limit, but bearable. Of many that few bytes stand for, the session ends with those that come at
    /// once.
    @Test(arguments: [true, false]) func manyLongListsEndTheSession(_ comeAtOnce: Bool) throws {
        var small = SessionConfiguration()
        small.headerListBytesMax = 4_096
        let pair = try Pair(server: small)
        var fields = requestFields
        // The first one is kept in the table, the others name it.
        for _ in 0..<12 { fields.append("x-bomb", String(repeating: "b", count: 3_900)) }
        let carry = { _ = try Pair.carry(from: pair.client, to: pair.server) }
        for _ in 0..<4 {
            _ = try pair.client.request(fields)
            if !comeAtOnce { try carry() }
        }
        if comeAtOnce {
            #expect(throws: HTTP2Error.self) { try carry() }
        } else {
            #expect(pair.server.openStreams == 4)
        }
    }

    /// Of a stream that is over: the library says nothing of them.
    @Test func ignoredHeadersAreCounted() throws {
        let pair = try Pair()
        let stream = try pair.open()
        pair.client.reset(stream.client, .cancel)
        try pair.exchange()
        #expect(pair.server.headersIgnored == 0)
        // ":method: GET", and the end of the headers.
        let headers: [UInt8] = [0, 0, 1, 1, 4, 0, 0, 0, 1, 0x82]
        try pair.server.receive(ByteBuffer(bytes: headers + headers))
        #expect(pair.server.headersIgnored == 2)
        #expect(pair.server.streams.isEmpty)
    }

    @Test func equalHeaderListsAreEqualBlocks() throws {
        let pair = try Pair()
        _ = try pair.client.request(requestFields)
        _ = try pair.client.request(requestFields)
        try pair.exchange()
        let blocks = pair.server.allEvents().compactMap { event -> HeaderBlock? in
            guard case .headers(_, let block, _) = event else { return nil }
            return block
        }
        #expect(blocks.count == 2)
        #expect(blocks[0] == blocks[1])
    }

    @Test func earlyAnswerIsFollowedByReset() throws {
        let pair = try Pair()
        let (_, opened) = try pair.open()
        pair.server.resetAfterEnd(opened)
        try pair.server.respond(
            opened, .fields(HeaderFields([":status": "200", "grpc-status": "12"])), endStream: true)
        try pair.exchange()
        let events = pair.client.allEvents()
        guard case .headers(_, let block, endStream: true)? = events.first,
            case .closed(_, .noError)? = events.last
        else {
            Issue.record("expected headers, then the stream closed: \(events)")
            return
        }
        #expect(block.value(for: "grpc-status") == "12")
        #expect(pair.server.streams.isEmpty)
    }

    @Test func resetReachesTheServer() throws {
        let pair = try Pair()
        let (stream, opened) = try pair.open()
        pair.client.reset(stream, .cancel)
        try pair.exchange()
        guard case .closed(let closed, .cancel) = pair.server.allEvents().first else {
            Issue.record("not closed")
            return
        }
        #expect(closed === opened)
        #expect(opened.isClosed)
    }

    @Test func floodOfResetsEndsTheConnection() throws {
        var strict = SessionConfiguration()
        strict.resetsBurst = 10
        strict.resetsPerSecond = 1
        let pair = try Pair(server: strict)
        for _ in 0..<20 {
            guard let stream = try? pair.client.request(requestFields) else { break }
            try pair.exchange()
            pair.client.reset(stream, .cancel)
            try pair.exchange()
        }
        let hasGoaway = pair.client.allEvents().contains { event in
            guard case .goAway = event else { return false }
            return true
        }
        #expect(hasGoaway)
    }

    @Test func settingsAreCountedWithTheStreamsThatTheyChange() throws {
        let pair = try Pair()
        for _ in 1...3 { _ = try pair.open() }
        let before = pair.server.streamsResettled
        let settings: [UInt8] = [0, 0, 0, 4, 0, 0, 0, 0, 0]
        let acknowledgement: [UInt8] = [0, 0, 0, 4, 1, 0, 0, 0, 0]
        try pair.server.receive(ByteBuffer(bytes: settings + settings + acknowledgement))
        #expect(pair.server.streamsResettled - before == 6)
    }

    @Test func gracefulShutdown() throws {
        let pair = try Pair()
        let (_, opened) = try pair.open()
        pair.server.announceShutdown()
        pair.server.ping(7)
        try pair.exchange()
        let acknowledged = pair.server.allEvents().contains { event in
            guard case .pingAcknowledged(7) = event else { return false }
            return true
        }
        #expect(acknowledged)
        pair.server.refuseNewStreams()
        try pair.exchange()
        #expect(throws: HTTP2Error.self) { try pair.client.request(requestFields) }
        #expect(!pair.server.isFinished)
        pair.server.resetAfterEnd(opened)
        try pair.server.respond(opened, .fields(HeaderFields([":status": "200"])), endStream: true)
        try pair.exchange()
        #expect(pair.server.isFinished)
    }

    @Test func wrongPrefaceIsAnError() throws {
        let server = Session(role: .server)
        #expect {
            try server.receive(ByteBuffer(string: "GET / HTTP/1.1\r\nhost: here\r\n\r\n"))
        } throws: { error in
            (error as? HTTP2Error)?.code == .badPreface
        }
    }

    @Test(arguments: 0..<200 as Range<UInt64>) func anythingAtAllIsSurvived(_ seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let pair = try Pair()
        _ = try pair.open()
        let bytes = (0..<200).map { _ in UInt8.random(in: 0...255, using: &random) }
        do {
            try pair.server.receive(ByteBuffer(bytes: bytes))
            var out = ByteBuffer()
            _ = try pair.server.send(into: &out, limit: 1 << 20)
        } catch {
            // As good an end as any.
        }
        _ = pair.server.allEvents()
    }
}
