import Foundation
import NIOCore
import NIOEmbedded
import Testing

@testable import GRPC

@Suite struct AcceptLimitTests {
    /// Counts what reaches the listening socket.
    private final class Socket: ChannelOutboundHandler {
        typealias OutboundIn = any Channel
        var reads = 0

        func read(context: ChannelHandlerContext) { reads += 1 }
    }

    private struct Listener {
        let channel = EmbeddedChannel()
        let socket = Socket()
        let connections = ConnectionRegistry(
            .init(
                connections: 1, connectionsPerSource: 1, anonymousCalls: 1, anonymousCallsPerSource: 1,
                anonymousCallsPerConnection: 1))

        init() throws {
            try channel.pipeline.syncOperations.addHandlers([socket, AcceptLimit(connections: connections)])
        }

        func lackFiles() {
            channel.pipeline.fireErrorCaught(IOError(errnoCode: EMFILE, reason: "accept"))
        }

        func passPause() { channel.embeddedEventLoop.advanceTime(by: AcceptLimit.pause) }

        /// A real listener accepts when this becomes true, without a `read`; an embedded one only keeps it.
        var autoRead: Bool? {
            channel.options.last { $0.option is ChannelOptions.Types.AutoReadOption }?.value as? Bool
        }
    }

    @Test func asksAgainAfterThePause() throws {
        let listener = try Listener()
        listener.lackFiles()
        listener.lackFiles()
        #expect(listener.autoRead == false)
        listener.channel.read()
        #expect(listener.socket.reads == 0)
        listener.passPause()
        #expect(listener.autoRead == true)
        listener.channel.read()
        #expect(listener.socket.reads == 1)
    }

    @Test func theEndOfThePauseIsNoWayPastTheLimit() throws {
        let listener = try Listener()
        let peer = try EmbeddedPeer([])
        let bound = NIOLoopBound(peer.connection, eventLoop: peer.channel.eventLoop)
        let registration = listener.connections.register(from: nil)
        #expect(listener.connections.add(bound, as: registration))
        registration.admitted()
        listener.lackFiles()
        listener.passPause()
        listener.channel.read()
        #expect(listener.autoRead == false && listener.socket.reads == 0)
        registration.remove()
        listener.channel.embeddedEventLoop.run()
        #expect(listener.autoRead == true)
    }
}
