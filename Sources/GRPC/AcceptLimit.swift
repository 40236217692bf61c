internal import Glibc
internal import NIOCore

/// Stops accepting while the limit on connections is reached, and briefly when the system is out of file descriptors. New
/// connections then wait in the kernel's backlog.
final class AcceptLimit: ChannelDuplexHandler {
    typealias InboundIn = any Channel
    typealias OutboundIn = any Channel

    private let connections: ConnectionRegistry
    private var isPaused = false

    init(connections: ConnectionRegistry) {
        self.connections = connections
    }

    /// The wait when the system is out of file descriptors or memory: `accept` would fail again at once.
    static let pause = TimeAmount.milliseconds(100)

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.fireErrorCaught(error)
        let lacking = [EMFILE, ENFILE, ENOBUFS, ENOMEM]
        guard let error = error as? IOError, lacking.contains(error.errnoCode), !isPaused else { return }
        isPaused = true
        let channel = context.channel
        // The listener is still registered for reading: only this takes it out of the loop's selector. It fails when the
        // listener is closed.
        try? channel.syncOptions?.setOption(.autoRead, value: false)
        let bound = NIOLoopBound(self, eventLoop: channel.eventLoop)
        channel.eventLoop.scheduleTask(in: Self.pause) { bound.value.resume(channel) }
    }

    private func resume(_ channel: any Channel) {
        let bound = NIOLoopBound(self, eventLoop: channel.eventLoop)
        let hasRoom = connections.hasRoom {
            channel.eventLoop.execute { bound.value.resume(channel) }
        }
        guard hasRoom else { return }
        isPaused = false
        // With autoRead the listener accepts again, without a `read` of this handler that could check the limit.
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
