internal import Glibc
internal import NIOCore

/// Stops accepting while there are as many connections as are allowed, and for a moment when the system has no more files
/// to give. Those that wait are the kernel's.
final class AcceptLimit: ChannelDuplexHandler {
    typealias InboundIn = any Channel
    typealias OutboundIn = any Channel

    private let connections: ConnectionRegistry
    private var isPaused = false

    init(connections: ConnectionRegistry) {
        self.connections = connections
    }

    /// The system says at once, again and again, that it has nothing to give: it is not asked for a while.
    static let pause = TimeAmount.milliseconds(100)

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.fireErrorCaught(error)
        let lacking = [EMFILE, ENFILE, ENOBUFS, ENOMEM]
        guard let error = error as? IOError, lacking.contains(error.errnoCode), !isPaused else { return }
        isPaused = true
        let channel = context.channel
        // What was asked for before is still asked for: only this takes the listener from the loop's selector. It fails
        // when the listener is closed.
        try? channel.syncOptions?.setOption(.autoRead, value: false)
        let bound = NIOLoopBound(self, eventLoop: channel.eventLoop)
        channel.eventLoop.scheduleTask(in: Self.pause) { bound.value.goOn(channel) }
    }

    private func goOn(_ channel: any Channel) {
        let bound = NIOLoopBound(self, eventLoop: channel.eventLoop)
        let hasRoom = connections.hasRoom {
            channel.eventLoop.execute { bound.value.goOn(channel) }
        }
        guard hasRoom else { return }
        isPaused = false
        // It accepts by itself, without a `read` that could look for room.
        try? channel.syncOptions?.setOption(.autoRead, value: true)
    }

    func read(context: ChannelHandlerContext) {
        guard !isPaused else { return }
        let channel = context.channel
        let hasRoom = connections.hasRoom {
            channel.eventLoop.execute { channel.read() }
        }
        if hasRoom { context.read() }
    }
}
