import HTTP2
import NIOCore
import Testing

@testable import GRPC

@Suite struct StallDetectorTests {
    @Test func nothingThatMovesIsCounted() {
        var detector = StallDetector()
        #expect((1...5).map { _ in detector.tick(moved: 0) } == [1, 2, 3, 4, 5])
    }

    @Test func aBurstBuysOneStallAndNoMore() {
        var detector = StallDetector()
        #expect(detector.tick(moved: 0) == 1)
        #expect(detector.tick(moved: 100 * StallDetector.bytesMin) == 0)
        #expect((1...4).map { _ in detector.tick(moved: 1) } == [1, 2, 3, 4])
    }

    @Test func enoughInFourTicksIsEnough() {
        var detector = StallDetector()
        for _ in 0..<100 {
            #expect((1...4).map { _ in detector.tick(moved: StallDetector.bytesMin / 4) } == [1, 2, 3, 0])
        }
        #expect((1...5).map { _ in detector.tick(moved: StallDetector.bytesMin / 4 - 1) } == [1, 2, 3, 4, 0])
    }

    @Test func resetStartsAnew() {
        var detector = StallDetector()
        #expect((1...3).map { _ in detector.tick(moved: StallDetector.bytesMin / 4) } == [1, 2, 3])
        detector.reset()
        #expect(detector.tick(moved: StallDetector.bytesMin / 4) == 1)
    }
}

/// What a client may hold with little effort.
@Suite struct StallTests {
    private static let echo = Method("/t/Echo", .unary { message, _, _ in .message(message) })
    private static let large = Method(
        "/t/Large",
        .unary { _, _, _ in
            .message(ByteBuffer(repeating: 7, count: 1 << 20))
        })

    /// A message of a mebibyte, and its first `count` bytes.
    private func beginning(_ count: Int) -> ByteBuffer {
        var bytes = ByteBuffer(bytes: [0, 0, 16, 0, 0])
        bytes.writeRepeatingByte(3, count: count)
        return bytes
    }

    /// For how many ticks, of a hundred, a request lives of which so much comes in each of them.
    private func ticks(ofRequestWith bytes: Int, beginning count: Int = 20_000) throws -> Int {
        let peer = try EmbeddedPeer([Self.echo])
        let stream = try peer.request("/t/Echo", beginning(count), isWhole: false)
        for tick in 1...100 {
            if bytes > 0 { try peer.sendBody(of: stream.id, bytes) }
            try peer.tick()
            guard let code = peer.reset(of: stream.id) else { continue }
            #expect(code == .enhanceYourCalm)
            #expect(peer.connection.resources.unfinishedBytes == 0)
            return tick
        }
        return 100
    }

    @Test func aRequestOfWhichNothingMoreComesIsReset() throws {
        #expect(try ticks(ofRequestWith: 0) == 5)
        #expect(try ticks(ofRequestWith: 0, beginning: 1) == 4)
    }

    /// It waits for the client all the same, who may be about to call.
    @Test func aRequestThatHasNotBegunIsKept() throws {
        let peer = try EmbeddedPeer([Self.echo])
        let stream = try peer.request("/t/Echo", ByteBuffer(), isWhole: false)
        try peer.tick(10)
        #expect(peer.reset(of: stream.id) == nil)
    }

    /// Sixteen times as much is asked of who sends in parts while more than half of what all may have is taken.
    @Test func aSlowRequestIsResetWhereOthersWait() throws {
        for isScarce in [true, false] {
            let budgets = MemoryBudgets(ServerConfiguration())
            var others = MemoryBudget.Share(exempt: 0)
            _ = others.update(isScarce ? 9 << 20 : 7 << 20, of: budgets.unfinishedRequests)
            let peer = try EmbeddedPeer([Self.echo], budgets: budgets)
            let stream = try peer.request("/t/Echo", beginning(20_000), isWhole: false)
            for _ in 0..<4 { try peer.sendBody(of: stream.id, 16_000) }
            let last = try (1...100).first { _ in
                try peer.sendBody(of: stream.id, StallDetector.bytesMin / 4)
                try peer.tick()
                return peer.reset(of: stream.id) != nil
            }
            #expect(last == (isScarce ? 4 : nil))
        }
    }

    @Test func aRequestThatDripsIsReset() throws {
        #expect(try ticks(ofRequestWith: 1) == 5)
        #expect(try ticks(ofRequestWith: StallDetector.bytesMin / 4 - 1) == 5)
    }

    @Test func aSlowRequestIsBorneWith() throws {
        #expect(try ticks(ofRequestWith: StallDetector.bytesMin / 4) == 100)
    }

    /// For how many ticks, of a hundred, an answer is kept of which the client takes so much in each of them, while others
    /// have so much unread.
    private func ticks(ofAnswerWith bytes: UInt32, unreadByOthers: Int = 0) throws -> Int {
        let budgets = MemoryBudgets(ServerConfiguration())
        var others = MemoryBudget.Share(exempt: 0)
        _ = others.update(unreadByOthers, of: budgets.unreadResponses)
        let peer = try EmbeddedPeer([Self.large], streamWindowBytes: 20_000, budgets: budgets)
        let id = try peer.request("/t/Large", ByteBuffer(bytes: [0, 0, 0, 0, 0]), isWhole: true).id
        #expect(peer.bodyBytes(of: id) == 20_000)
        for tick in 1...100 {
            if bytes > 0 { try peer.openWindow(of: id, by: bytes) }
            try peer.tick()
            guard let code = peer.reset(of: id) else { continue }
            #expect(code == .enhanceYourCalm)
            #expect(peer.connection.session.queuedBytes == 0)
            return tick
        }
        #expect(peer.bodyBytes(of: id) == 20_000 + 100 * Int(bytes))
        return 100
    }

    @Test func anAnswerThatIsTakenByteByByteIsDropped() throws {
        #expect(try ticks(ofAnswerWith: 0) == 5)
        #expect(try ticks(ofAnswerWith: 1) == 5)
        #expect(try ticks(ofAnswerWith: UInt32(StallDetector.bytesMin) / 4 - 1) == 5)
    }

    @Test func anAnswerThatIsTakenSlowlyIsKept() throws {
        #expect(try ticks(ofAnswerWith: UInt32(StallDetector.bytesMin) / 4) == 100)
        #expect(try ticks(ofAnswerWith: UInt32(StallDetector.bytesMin) / 4, unreadByOthers: 20 << 20) == 100)
        #expect(try ticks(ofAnswerWith: UInt32(StallDetector.bytesMin) / 4, unreadByOthers: 40 << 20) < 6)
    }

    /// The streams have room, the connection has not: what one of them is sent counts for all.
    @Test func theWindowOfTheConnectionIsOneForAllStreams() throws {
        let peer = try EmbeddedPeer([Self.large], streamWindowBytes: 2 << 20)
        let ids = try (0..<8).map { _ in
            try peer.request("/t/Large", ByteBuffer(bytes: [0, 0, 0, 0, 0]), isWhole: true).id
        }
        // What RFC 9113 gives a connection, and the session's own settings add.
        let begun = ids.map(peer.bodyBytes).reduce(0, +)
        for _ in 0..<50 {
            try peer.openWindow(of: 0, by: UInt32(StallDetector.bytesMin) / 4)
            try peer.tick()
        }
        #expect(ids.compactMap(peer.reset).isEmpty)
        #expect(ids.map(peer.bodyBytes).reduce(0, +) == begun + 50 * StallDetector.bytesMin / 4)
        for _ in 0..<5 { try peer.tick() }
        // The first is whole.
        #expect(ids.map(peer.reset) == [nil] + ids.dropFirst().map { _ in .enhanceYourCalm })
    }
}
