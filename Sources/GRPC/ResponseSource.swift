package import NIOCore

/// The rest of a streaming response, from which the call pulls messages as its client reads them (backpressure). No task
/// waits for them, so a call that is idle for hours takes no more memory than its stream.
package protocol ResponseSource: AnyObject, Sendable {
    /// The next step. Called on the call's event loop, which it must not block.
    func next() -> ResponseStep
    /// Called once, before `next`. After each `.wait` the source calls `wake`, on any thread, when there is more.
    func onReady(_ wake: @escaping @Sendable () -> Void)
    /// The call is over, and no other method is called any more. Called once.
    func close()
}

package enum ResponseStep: Sendable {
    case message(ByteBuffer)
    case wait
    /// A task does what takes time, and `next` is called again when it has returned. The task is cancelled when the call
    /// is over. An error that it throws ends the call.
    case work(@Sendable () async throws -> Void)
    /// Ends the call; nil is OK.
    case end(Status?)
}

/// Takes the messages of a streaming request. Its methods are called on the call's event loop, which they must not block.
package protocol RequestSink: AnyObject, Sendable {
    /// Whether the next message can be taken. While it cannot, flow control holds the client back.
    var isReady: Bool { get }
    /// Called only when the sink is ready.
    func receive(_ message: ByteBuffer)
    /// The client has half-closed. Called once, after the last message.
    func receiveEnd()
}

/// Both directions of a bidirectional call without a task. After each message the call pulls responses. The exchange also
/// calls the `wake` of `onReady` when it has become ready for more requests.
package protocol MessageExchange: RequestSink, ResponseSource {}
