import HTTP2
import NIOCore
import Testing

@testable import MessageCompression
@testable import GRPC

@Suite struct MemoryBudgetTests {
    @Test func eachGetsHalfOfWhatIsLeft() {
        let budget = MemoryBudget(max: 1_000)
        var first = MemoryBudget.Share(exempt: 10)
        #expect([510, 511, 510].map { first.update($0, of: budget) } == [true, false, true])
        var second = MemoryBudget.Share(exempt: 10)
        #expect([260, 261].map { second.update($0, of: budget) } == [true, false])
        #expect(budget.isScarce)
        #expect([0].map { first.update($0, of: budget) } == [true])
        #expect([510].map { second.update($0, of: budget) } == [true])
        #expect(!budget.isScarce)
    }

    @Test func exemptUsageIsNotCounted() {
        let budget = MemoryBudget(max: 0)
        var share = MemoryBudget.Share(exempt: 10)
        #expect([10, 11, 10].map { share.update($0, of: budget) } == [true, false, true])
        // However much others have taken.
        var other = MemoryBudget.Share(exempt: 0)
        _ = other.update(1, of: budget)
        #expect(share.hasRoom(in: budget) && !other.hasRoom(in: budget))
    }
}

/// The limits on what clients can make the server hold.
@Suite struct MemoryTests {
    /// Never answers.
    private static let silent = Method("/t/Silent", .unary { _, _, _ in .later })
    private static let large = Method(
        "/t/Large",
        .unary { _, _, _ in
            .message(ByteBuffer(repeating: 7, count: 1 << 20))
        })

    private func framed(_ message: ByteBuffer, flag: UInt8 = 0) -> ByteBuffer {
        var framed = ByteBuffer(bytes: [flag])
        framed.writeInteger(UInt32(message.readableBytes))
        framed.writeImmutableBuffer(message)
        return framed
    }

    /// A few kilobytes stand for four megabytes.
    @Test func decompressedRequestsCountForTheConnection() throws {
        var configuration = ServerConfiguration()
        configuration.requestBytesPerConnection = 8 << 20
        let peer = try EmbeddedPeer([Self.silent], configuration: configuration)
        let message = try #require(Coding.gzip.compress(ByteBuffer(repeating: 0, count: 4 << 20)))
        let ids = try (0..<3).map { _ in
            try peer.request("/t/Silent", framed(message, flag: 1), isWhole: true, coding: .gzip).id
        }
        #expect(peer.connection.resources.requestBytes == 8 << 20)
        #expect(peer.connection.resources.runningHandlers == 2)
        #expect(ids.map(peer.hasEnded) == [false, false, true])
    }

    /// Each may have 8 MiB unread, but all together 64 MiB.
    @Test func unreadAnswersOfManyConnectionsAreBounded() throws {
        let budgets = MemoryBudgets(ServerConfiguration())
        var unread = 0
        for _ in 0..<16 {
            let peer = try EmbeddedPeer([Self.large], streamWindowBytes: 1, budgets: budgets)
            for _ in 0..<8 { _ = try peer.request("/t/Large", framed(ByteBuffer()), isWhole: true) }
            unread += peer.connection.session.queuedBytes
        }
        #expect(unread > 32 << 20)
        #expect(unread <= 68 << 20)
    }

    /// Parts of 15 KiB, of which each would be too little to count.
    @Test func manySmallPartsOfRequestsAreBounded() throws {
        let budgets = MemoryBudgets(ServerConfiguration())
        let peers = try (0..<24).map { _ in try EmbeddedPeer([Self.silent], budgets: budgets) }
        for peer in peers {
            for _ in 0..<100 {
                let stream = try peer.request(
                    "/t/Silent", ByteBuffer(bytes: [0, 0, 1, 0, 0]), isWhole: false)
                try peer.sendBody(of: stream.id, 15_000)
            }
        }
        let held = peers.map(\.connection.resources.unfinishedBytes).reduce(0, +)
        #expect(held > 8 << 20)
        #expect(held <= 18 << 20)
    }

    /// Whoever has taken all that there is: a small call on the same connection is none of it.
    @Test func smallCallsDoNotAnswerForLargeOnes() throws {
        let budgets = MemoryBudgets(ServerConfiguration())
        let small = Method("/t/Small", .unary { message, _, _ in .message(message) })
        let peer = try EmbeddedPeer([Self.large, small], streamWindowBytes: 1, budgets: budgets)
        func answers(_ path: String, _ bytes: Int) throws -> Bool {
            let before = peer.connection.session.queuedBytes
            let message = framed(ByteBuffer(repeating: 1, count: bytes))
            _ = try peer.request(path, message, isWhole: true)
            return peer.connection.session.queuedBytes > before
        }
        var isAnswered = try answers("/t/Large", 0)
        #expect(isAnswered)
        var others = MemoryBudget.Share(exempt: 0)
        _ = others.update(64 << 20, of: budgets.unreadResponses)
        for _ in 0..<20 {
            isAnswered = try answers("/t/Small", 1_000)
            #expect(isAnswered)
        }
        isAnswered = try answers("/t/Large", 0)
        #expect(!isAnswered)
    }

    /// It comes at the end of very many others.
    @Test func aRequestThatIsNotWholeKeepsItsOwnBytesOnly() throws {
        let peer = try EmbeddedPeer([Self.silent])
        _ = try peer.request("/t/Silent", ByteBuffer(bytes: [0, 0]), isWhole: false)
        #expect(peer.connection.lastReceiving == nil)
        #expect(peer.connection.resources.unfinishedBytes == 2)
    }

    /// Of trailers that are too long nothing is used, but reading them is work.
    @Test func trailersThatAreTooLongAreFaults() throws {
        var configuration = ServerConfiguration()
        configuration.faultsBurst = 10
        let peer = try EmbeddedPeer([Self.silent], configuration: configuration)
        let trailers = HeaderFields(["x-long": String(repeating: "l", count: 9_000)])
        for _ in 0..<20 {
            let stream = try peer.request("/t/Silent", framed(ByteBuffer()), isWhole: false)
            peer.session.finish(stream, trailers: .fields(trailers))
            try peer.send()
        }
        #expect(peer.connection.machine.state == .cutOff(isSent: true))
    }

    @Test func aClientThatAcknowledgesNothingIsRefusedNewStreams() throws {
        let peer = try EmbeddedPeer([Self.silent])
        let stream = try peer.request("/t/Silent", framed(ByteBuffer()), isWhole: true)
        peer.connection.beginShutdown()
        #expect(peer.connection.machine.state == .draining)
        try peer.pass(ServerConnectionStateMachine.drainTimeout)
        #expect(peer.connection.machine.state == .refusing)
        #expect(!peer.hasEnded(stream.id))
        #expect(peer.goAways == [Int32.max, stream.id])
    }
}
