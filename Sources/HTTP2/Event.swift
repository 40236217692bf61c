package import NIOCore

/// An action of the peer. Events come in the order in which they happened.
package enum Event {
    /// A request (server), a response or trailers (client), or trailers (server).
    case headers(Stream, HeaderBlock, endStream: Bool)
    /// A part of the body. Shares the memory of the bytes received.
    case data(Stream, ByteBuffer)
    /// The peer has sent all it will on this stream (after its last DATA).
    case endStream(Stream)
    /// The stream is over for both sides, for the reason given. Always the last event of a stream.
    case closed(Stream, ErrorCode)
    /// The bytes queued on the stream have fallen to its low-water mark (asked for by `notifyWhenDrained`).
    case drained(Stream)
    case settings
    case settingsAcknowledged
    case ping
    case pingAcknowledged(UInt64)
    case goAway(lastStreamID: Int32, ErrorCode)
}
