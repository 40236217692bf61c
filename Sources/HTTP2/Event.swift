package import NIOCore

/// An action of the peer. Events are delivered in the order in which they happened.
package enum Event {
    /// A request (server), a response or trailers (client), or trailers (server).
    case headers(Stream, HeaderBlock, endStream: Bool)
    /// A part of the body. It shares the memory of the received bytes.
    case data(Stream, ByteBuffer)
    /// The peer has ended its side of this stream, after its last DATA.
    case endStream(Stream)
    /// Both sides of the stream have ended, for the reason given. It is always the last event of a stream.
    case closed(Stream, ErrorCode)
    /// The bytes queued on the stream have fallen to the low-water mark that `notifyWhenDrained` set.
    case drained(Stream)
    case settings
    case settingsAcknowledged
    case ping
    case pingAcknowledged(UInt64)
    case goAway(lastStreamID: Int32, ErrorCode)
}
