internal import Glibc
internal import NIOCore

/// Stops accepting while there are as many connections as are allowed, and for a moment when the system has no more files
/// to give. Those that wait are the kernel's.
final class AcceptLimit: ChannelDuplexHandler {
    typealias InboundIn = any Channel
    typealias OutboundIn = any Channel

    private let connections: ConnectionRegistry
    private var isPaused = false
    /// Asked for during the pause.
    private var isReadHeld = false

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
        context.eventLoop.assumeIsolated().scheduleTask(in: Self.pause) { [self] in
            isPaused = false
            guard isReadHeld else { return }
            isReadHeld = false
            // Through `read`, which looks whether there is room.
            context.channel.read()
        }
    }

    func read(context: ChannelHandlerContext) {
        guard !isPaused else {
            isReadHeld = true
            return
        }
        let channel = context.channel
        let hasRoom = connections.hasRoom {
            channel.eventLoop.execute { channel.read() }
        }
        if hasRoom { context.read() }
    }
}
