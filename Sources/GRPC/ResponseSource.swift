package import NIOCore

/// Where a streaming answer goes on after its handler has returned: messages as they come, and no task that waits for
/// them, so that a call that is idle for hours takes no more than its stream.
package protocol ResponseSource: AnyObject, Sendable {
    /// What is next. Called on the call's event loop, which it must not block.
    func next() -> ResponseStep
    /// Called once, before `next`. After each `.wait` the source calls `wake`, on any thread, when there is more.
    func onReady(_ wake: @escaping @Sendable () -> Void)
    /// The call is over, and nothing is asked for any more. Called once.
    func close()
}

package enum ResponseStep: Sendable {
    case message(ByteBuffer)
    case wait
    /// What takes time; `next` is called again when it has returned. Cancelled when the call is over. What it throws
    /// ends the call.
    case work(@Sendable () async throws -> Void)
    /// Nil is OK.
    case end(Status?)
}
